// The playground: one conversation, answered by one model or by two side by side, streamed through the console's own door.
const bench = document.getElementById("main");
const get = (id) => document.getElementById(id);
const facts = JSON.parse(get("models").textContent);
const token = bench.querySelector("[name=csrfmiddlewaretoken]").value;
const workspace = bench.dataset.workspace;
const sides = ["A", "B"];
const histories = { A: [], B: [] };
const stops = new Set();
let isComparing = false;
let isSending = false;
let attached = [];

// What was chosen is kept in this browser.
const KEPT = ["model-A", "model-B", "system", "most", "format", "schema", "tools"];
const keep = () => localStorage.setItem(`playground:${workspace}`, JSON.stringify(Object.fromEntries(KEPT.map((id) => [id, get(id).value]))));
const kept = JSON.parse(localStorage.getItem(`playground:${workspace}`) ?? "{}");
for (const id of KEPT) {
  const field = get(id);
  if (kept[id] && (field.tagName !== "SELECT" || [...field.options].some((option) => option.value === kept[id]))) field.value = kept[id];
  field.addEventListener("change", keep);
}

// A link from the page of models names the one to try.
const wanted = new URLSearchParams(location.search).get("model");
if (wanted in facts) get("model-A").value = wanted;

const touched = new Set();
for (const id of ["temperature", "top-p"]) {
  get(id).addEventListener("input", () => { touched.add(id); get(`${id}-out`).textContent = get(id).value; });
}

function describe() {
  for (const side of sides) {
    const model = facts[get(`model-${side}`).value];
    get(`hint-${side}`).textContent = `${model.input} in, ${model.output} out per million. ${model.takes.join(", ")}`;
  }
  const most = Math.min(...chosen().map((side) => facts[get(`model-${side}`).value].most));
  get("most-hint").textContent = `tokens, at most ${most.toLocaleString("en-GB")}`;
  get("run").querySelector("span").textContent = isComparing ? "Run both" : "Run";
}
const chosen = () => (isComparing ? sides : ["A"]);

function body(side, messages) {
  const asked = { model: get(`model-${side}`).value, messages, stream: true };
  if (touched.has("temperature")) asked.temperature = Number(get("temperature").value);
  if (touched.has("top-p")) asked.top_p = Number(get("top-p").value);
  const most = Number(get("most").value.replaceAll(",", ""));
  if (most > 0) asked.max_tokens = most;
  const format = get("format").value;
  if (format === "json_schema") asked.response_format = { type: format, json_schema: editors.schema.value() };
  else if (format) asked.response_format = { type: format };
  const tools = editors.tools.value();
  if (tools) asked.tools = tools;
  return asked;
}

function messagesOf(side, question) {
  const system = get("system").value.trim();
  return [...(system ? [{ role: "system", content: system }] : []), ...histories[side], ...(question ? [question] : [])];
}

function questionOf(text, files) {
  if (!files.length) return { role: "user", content: text };
  const parts = files.map((file) => ({ type: "file", file: { file_id: file.id } }));
  return { role: "user", content: [{ type: "text", text }, ...parts] };
}

async function* frames(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

const STATES = ["Streaming", "Done", "Stopped", "Failed"];
function setState(card, word) {
  card.querySelector(".state").replaceChildren(get("states").content.children[STATES.indexOf(word)].cloneNode(true));
  card.querySelector(".stop").hidden = word !== "Streaming";
  card.setAttribute("aria-busy", String(word === "Streaming"));
}

async function answer(side, question, pair) {
  const card = get("answer").content.firstElementChild.cloneNode(true);
  const model = get(`model-${side}`).value;
  card.querySelector(".name").textContent = model;
  card.setAttribute("aria-label", `Answer of ${model}`);
  pair.append(card);
  setState(card, "Streaming");
  const stop = new AbortController();
  stops.add(stop);
  card.querySelector(".stop").addEventListener("click", () => stop.abort());
  const text = card.querySelector(".text");
  const thought = card.querySelector(".thought");
  const began = performance.now();
  const told = { first: null, usage: null, credits: null, isDelivered: false, model };
  let word = "Done";
  try {
    const response = await fetch("/console/playground/chat", {
      method: "POST",
      signal: stop.signal,
      headers: {
        "Content-Type": "application/json", "X-CSRFToken": token, "X-Workspace": workspace,
        ...(get("chain").checked ? {} : { "x-disable-fallback": "true" }),
      },
      body: JSON.stringify(body(side, messagesOf(side, question))),
    });
    if (!response.ok) throw new Error(await refusal(response));
    for await (const frame of frames(response.body)) {
      if (frame.error) throw new Error(`${frame.error.message} (${frame.error.code})`);
      entry(card, frame.id);
      told.isDelivered = true;
      told.model = frame.model ?? told.model;
      const delta = frame.choices?.[0]?.delta ?? {};
      if (told.first === null && (delta.content || delta.reasoning_content || delta.tool_calls)) told.first = performance.now() - began;
      if (delta.reasoning_content) { thought.hidden = false; thought.textContent += delta.reasoning_content; }
      if (delta.content || delta.refusal) text.textContent += delta.content ?? delta.refusal;
      if (delta.tool_calls) text.textContent += delta.tool_calls.map((call) => `${call.function?.name ?? ""}${call.function?.arguments ?? ""}`).join("");
      if (frame.usage) { told.usage = frame.usage; told.credits = frame.credits_used; }
    }
    histories[side].push(question, { role: "assistant", content: text.textContent });
  } catch (error) {
    word = stop.signal.aborted ? "Stopped" : "Failed";
    if (word === "Failed") {
      const line = document.createElement("p");
      line.className = "error";
      line.textContent = error.message;
      card.querySelector(".prose").append(line);
    } else if (text.textContent) {
      histories[side].push(question, { role: "assistant", content: text.textContent });
    }
  }
  stops.delete(stop);
  setState(card, word);
  bill(card, told, word, performance.now() - began);
}

async function refusal(response) {
  try {
    const { error } = await response.json();
    return `${error.message} (${error.code})`;
  } catch {
    return `The gateway answered ${response.status}.`;
  }
}

function entry(card, id) {
  const link = card.querySelector(".entry");
  if (!id || !link.hidden) return;
  link.href = `${bench.dataset.log}/${id}`;
  link.hidden = false;
}

function bill(card, told, word, took) {
  const cost = card.querySelector(".cost");
  const say = card.querySelector(".say");
  if (told.credits !== null) {
    const figure = document.createElement("strong");
    figure.textContent = String(told.credits);
    cost.replaceChildren(figure, ` credit${told.credits === 1 ? "" : "s"}`);
  } else {
    // A stream that breaks off does not say what it cost.
    cost.textContent = word === "Stopped" || told.isDelivered ? "What was delivered is charged; the log entry says how much" : "Nothing was charged";
  }
  const lines = [];
  if (told.model !== card.querySelector(".name").textContent) lines.push(`served by ${told.model}`);
  if (told.first !== null) lines.push(`first token ${(told.first / 1000).toFixed(2)} s`);
  if (told.usage) {
    const seconds = (took - (told.first ?? 0)) / 1000;
    if (seconds > 0.05) lines.push(`${Math.round(told.usage.completion_tokens / seconds).toLocaleString("en-GB")} tokens/s`);
    lines.push(`${told.usage.prompt_tokens.toLocaleString("en-GB")} in, ${told.usage.completion_tokens.toLocaleString("en-GB")} out`);
  }
  say.replaceChildren(...lines.map((line) => { const span = document.createElement("span"); span.textContent = line; return span; }));
}

function chip(file) {
  const made = get("chip").content.firstElementChild.cloneNode(true);
  made.querySelector(".name").textContent = file.name;
  return made;
}

// Of the types that some model takes; by its ending where the browser has another name for its type.
const isTaken = (file) => get("picked").accept.split(",").some((kind) => (kind.startsWith(".") ? file.name.toLowerCase().endsWith(kind) : file.type === kind));

function refuse(made, words) {
  const line = made.querySelector(".facts-line");
  line.className = "sub error";
  line.textContent = words;
}

function attach(files) {
  for (const file of files) {
    const made = chip(file);
    get("attached").append(made);
    if (!isTaken(file)) {
      refuse(made, "Attach an image (PNG, JPEG, GIF, WebP), a PDF, or audio (MP3, WAV, WebM). Text goes into the message itself.");
      made.querySelector("button").addEventListener("click", () => made.remove());
      continue;
    }
    const line = made.querySelector(".facts-line");
    line.textContent = "0 %";
    const sending = upload(file, "user_data", { workspace, token, onProgress: (share) => { line.textContent = share < 100 ? `${share} %` : "Checking"; } });
    const one = { name: file.name, id: null };
    attached.push(one);
    made.querySelector("button").addEventListener("click", () => { sending.stop(); made.remove(); attached = attached.filter((other) => other !== one); });
    one.done = sending.done.then((stored) => {
      one.id = stored.id;
      one.facts = `${Math.max(1, Math.round(stored.bytes / 1000)).toLocaleString("en-GB")} kB`;
      line.textContent = one.facts;
    }).catch((error) => { one.hasFailed = attached.includes(one); attached = attached.filter((other) => other !== one); refuse(made, error.message); });
  }
}

// One question at a time, from the first wait on: each is paid for.
async function run() {
  const text = get("ask").value.trim();
  if (isSending || (!text && !attached.length) || !areEditorsRight()) return;
  isSending = true;
  get("run").setAttribute("aria-busy", "true");
  try {
    // Also for what is attached meanwhile. Without a file that did not arrive it would be another question.
    while (attached.some((file) => !file.id)) {
      const waited = [...attached];
      await Promise.all(waited.map((file) => file.done));
      if (waited.some((file) => file.hasFailed)) return;
    }
    if (text || attached.length) await send(text);
  } finally {
    isSending = false;
    get("run").removeAttribute("aria-busy");
  }
}

async function send(text) {
  const files = attached.filter((file) => file.id);
  attached = [];
  get("attached").replaceChildren();
  get("ask").value = "";
  get("hello").hidden = true;
  const turn = get("turn").content.firstElementChild.cloneNode(true);
  turn.querySelector(".asked").textContent = text;
  turn.querySelector(".files").append(...files.map((file) => {
    const made = chip(file);
    made.querySelector("button").remove();
    made.querySelector(".facts-line").textContent = file.facts;
    return made;
  }));
  const pair = turn.querySelector(".pair");
  pair.classList.toggle("single", !isComparing);
  get("turns").append(turn);
  const question = questionOf(text, files);
  const answers = chosen().map((side) => answer(side, question, pair));
  turn.scrollIntoView({ block: "start" });
  await Promise.all(answers);
}

function fresh() {
  for (const stop of stops) stop.abort();
  for (const side of sides) histories[side] = [];
  get("turns").replaceChildren();
  get("hello").hidden = false;
  get("ask").focus();
}

function code() {
  const asked = body("A", messagesOf("A", questionOf(get("ask").value.trim() || "Hello", attached.filter((file) => file.id))));
  const url = `${bench.dataset.base}/v1`;
  const json = JSON.stringify(asked, null, 2);
  if (!areEditorsRight()) return;
  get("code-curl").textContent = `curl -N ${url}/chat/completions \\\n  -H "Authorization: Bearer $GATEWAY_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${json.replaceAll("'", "'\\''")}'`;
  get("code-python").textContent = `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${url}", api_key=os.environ["GATEWAY_API_KEY"])\nasked = ${python(asked)}\nfor chunk in client.chat.completions.create(**asked):\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="")`;
  get("code-node").textContent = `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${url}", apiKey: process.env.GATEWAY_API_KEY });\nconst asked = ${json};\nfor await (const chunk of await client.chat.completions.create(asked)) {\n  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n}`;
  get("code-dialog").showModal();
}

// A value as Python writes it.
function python(value, indent = "") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const inner = `${indent}    `;
  const lines = Array.isArray(value)
    ? value.map((item) => `${inner}${python(item, inner)},\n`)
    : Object.entries(value).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${python(item, inner)},\n`);
  return lines.length ? `${open}\n${lines.join("")}${indent}${close}` : open + close;
}

get("box").addEventListener("submit", (event) => { event.preventDefault(); run(); });
get("ask").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); } });
get("ask").addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); attach([...event.clipboardData.files]); } });
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !document.querySelector("dialog[open]")) for (const stop of stops) stop.abort(); });
takeDrops(get("box"), attach);
get("attach").addEventListener("click", () => get("picked").click());
get("picked").addEventListener("change", () => { attach([...get("picked").files]); get("picked").value = ""; });
get("compare").addEventListener("click", () => {
  isComparing = !isComparing;
  get("compare").setAttribute("aria-pressed", String(isComparing));
  bench.querySelector("[data-side=B]").hidden = !isComparing;
  get("pickers").classList.toggle("single", !isComparing);
  histories.B = [...histories.A];
  describe();
});
get("fresh").addEventListener("click", fresh);
get("code").addEventListener("click", code);
get("reset").addEventListener("click", () => {
  touched.clear();
  for (const id of ["system", "most", "format", "schema", "tools"]) get(id).value = "";
  showEditors();
  for (const id of ["temperature", "top-p"]) { get(id).value = "1"; get(`${id}-out`).textContent = "default"; }
  get("chain").checked = true;
  keep();
});
for (const side of sides) get(`model-${side}`).addEventListener("change", describe);
describe();
showEditors();
