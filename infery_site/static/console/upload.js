// Sends one file to the workspace, by the session. Progress is told in hundredths; what is refused, in the gateway's words.
function upload(file, purpose, { workspace, token, onProgress }) {
  const form = new FormData();
  form.append("purpose", purpose);
  form.append("file", file);
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", "/console/files/upload");
    request.setRequestHeader("X-CSRFToken", token);
    request.setRequestHeader("X-Workspace", workspace);
    request.upload.onprogress = (event) => { if (event.lengthComputable) onProgress(Math.floor((event.loaded / event.total) * 100)); };
    request.onload = () => {
      let answer = null;
      try { answer = JSON.parse(request.responseText); } catch { /* a proxy's page */ }
      if (request.status === 200 && answer) resolve(answer);
      else reject(new Error(answer?.error ? `${answer.error.message} (${answer.error.code})` : `The upload ended with status ${request.status}.`));
    };
    request.onerror = () => reject(new Error("The connection broke off. Choose the file again."));
    request.onabort = () => reject(new Error("Stopped."));
    request.send(form);
  });
  return { done, stop: () => request.abort() };
}

function takeDrops(place, onFiles, words) {
  const said = words?.textContent;
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
    if (words) words.textContent = "Drop to upload";
  });
  const leave = () => { place.classList.remove("over"); if (words) words.textContent = said; };
  place.addEventListener("dragleave", leave);
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    leave();
    onFiles([...event.dataTransfer.files]);
  });
}
