// The page of one chain: moving and adding models of the form, and the dry test, which asks the gateway for a quote.
const IMAGE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
const TOOL = { type: "function", function: { name: "look_up", description: "Looks something up.", parameters: { type: "object", properties: { what: { type: "string" } } } } };
const SCHEMA = { type: "json_schema", json_schema: { name: "answer", schema: { type: "object", properties: { answer: { type: "string" } }, required: ["answer"], additionalProperties: false }, strict: true } };

const links = document.getElementById("links");
const fieldsOf = (row) => [...row.querySelectorAll("select, input")];
links?.addEventListener("click", (event) => {
  const row = event.target.closest("[data-up]")?.closest("li");
  if (!row) return;
  const above = fieldsOf(row.previousElementSibling);
  fieldsOf(row).forEach((field, place) => { [field.value, above[place].value] = [above[place].value, field.value]; });
  above[0].focus();
});
document.getElementById("more")?.addEventListener("click", (event) => {
  const next = links.querySelector("li[hidden]");
  if (!next) return;
  next.hidden = false;
  fieldsOf(next)[0].focus();
  if (!links.querySelector("li[hidden]")) event.currentTarget.hidden = true;
});

function asked(form) {
  const chosen = new FormData(form);
  const text = document.getElementById("try-text").value;
  const content = chosen.has("image") ? [{ type: "text", text }, { type: "image_url", image_url: { url: IMAGE } }] : text;
  return {
    model: form.dataset.model,
    messages: [{ role: "user", content }],
    ...(chosen.has("stream") ? { stream: true } : {}),
    ...(chosen.has("tools") ? { tools: [TOOL] } : {}),
    ...(chosen.has("schema") ? { response_format: SCHEMA } : {}),
  };
}

function row(cells) {
  const line = document.createElement("tr");
  cells.forEach(([text, style], place) => {
    const cell = document.createElement(place ? "td" : "th");
    if (!place) cell.scope = "row";
    cell.className = style;
    cell.textContent = text;
    line.append(cell);
  });
  return line;
}

function show(quote, slugs) {
  const steps = new Map(quote.route.map((step) => [step.fallback_depth, step]));
  return slugs.map((slug, depth) => {
    const step = steps.get(depth);
    const adapted = step?.adaptations.join(", ");
    const words = step ? (adapted ? `serves, adapted: ${adapted}` : "serves as it was sent") : "skipped: it cannot serve this request";
    return row([[depth ? `${depth}.` : "Asked", ""], [slug, "wrap-cell"], [step ? step.credits_high.toFixed(6) : "–", "r"], [words, "mid wrap-cell"]]);
  });
}

const form = document.getElementById("try");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const place = document.getElementById("tried");
  const verdict = place.querySelector(".tried-verdict");
  const slugs = JSON.parse(document.getElementById("slugs").textContent);
  place.setAttribute("aria-busy", "true");
  let lines = [];
  try {
    const response = await fetch("/console/playground/chat?dry_run=true", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": form.querySelector("[name=csrfmiddlewaretoken]").value, "X-Workspace": form.dataset.workspace },
      body: JSON.stringify(asked(form)),
    });
    const answer = await response.json();
    if (response.ok) {
      lines = show(answer, slugs);
      verdict.textContent = answer.is_admitted
        ? `The request would be admitted, and ${answer.credits_held} credits be held for it.`
        : `The request would be refused: ${answer.refusal}.`;
    } else verdict.textContent = `Refused before the chain: ${answer.error.message} (${answer.error.code})`;
  } catch {
    verdict.textContent = "The gateway could not be reached. Test again.";
  }
  place.querySelector("tbody").replaceChildren(...lines);
  place.querySelector("table").hidden = !lines.length;
  place.hidden = false;
  place.removeAttribute("aria-busy");
});
