// The drop zone of the files page. The list is the server's: it is read again when all that was dropped has arrived.
const zone = document.getElementById("drop");
const uploads = document.getElementById("uploads");
const picked = document.getElementById("picked");
const facts = { workspace: zone.dataset.workspace, token: zone.querySelector("[name=csrfmiddlewaretoken]").value };
let open = 0;
let hasFailed = false;

async function send(file) {
  const row = document.createElement("li");
  const name = document.createElement("b");
  const state = document.createElement("span");
  const bar = document.createElement("progress");
  name.textContent = file.name;
  state.textContent = "0 %";
  bar.max = 100;
  bar.setAttribute("aria-label", `Upload of ${file.name}`);
  row.append(name, state, bar);
  uploads.append(row);
  open += 1;
  try {
    const onProgress = (share) => { bar.value = share; state.textContent = share < 100 ? `${share} %` : "Checking"; };
    await upload(file, zone.purpose.value, { ...facts, onProgress }).done;
    state.textContent = "Stored";
    bar.value = 100;
  } catch (error) {
    hasFailed = true;
    bar.remove();
    state.className = "error";
    state.textContent = error.message;
  }
  open -= 1;
  if (!open && !hasFailed) location.assign(location.pathname);
}

takeDrops(zone, (files) => files.forEach(send), zone.querySelector(".drop-words"));
document.getElementById("choose").addEventListener("click", () => picked.click());
picked.addEventListener("change", () => { hasFailed = false; [...picked.files].forEach(send); picked.value = ""; });
zone.addEventListener("submit", (event) => event.preventDefault());
