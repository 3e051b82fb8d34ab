// The editors of tools and of a JSON schema: what is written is judged as it is written, and said in words beside it.
const EXAMPLES = {
  tools: [{ type: "function", function: { name: "get_weather", description: "The weather of a city.", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } } }],
  schema: { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"], additionalProperties: false },
};
const MOST_TOOLS = 128;
const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    const at = /position (\d+)/.exec(error.message);
    const line = at ? ` Look at line ${text.slice(0, Number(at[1])).split("\n").length}.` : "";
    throw new Error(`This is no JSON yet.${line}`);
  }
}

function judgeSchema(schema, path = "The schema") {
  if (!isObject(schema)) throw new Error(`${path} must be an object, such as {"type": "object"}.`);
  for (const type of [schema.type ?? []].flat()) {
    if (!TYPES.includes(type)) throw new Error(`${path} has the type ${JSON.stringify(type)}; JSON knows ${TYPES.join(", ")}.`);
  }
  if (schema.properties !== undefined && !isObject(schema.properties)) throw new Error(`${path} has "properties" that are no object.`);
  for (const [name, property] of Object.entries(schema.properties ?? {})) judgeSchema(property, `"${name}"`);
  const required = schema.required ?? [];
  if (!Array.isArray(required)) throw new Error(`${path} has "required" that is no list of names.`);
  for (const name of required) {
    if (schema.properties && !(name in schema.properties)) throw new Error(`${path} requires "${name}", which is not among its properties.`);
  }
  if (schema.items !== undefined && isObject(schema.items)) judgeSchema(schema.items, `The items of ${path.replace(/^T/, "t")}`);
}

function judgeTools(tools) {
  if (!Array.isArray(tools)) throw new Error("Tools are a list: begin with [ and end with ].");
  if (tools.length > MOST_TOOLS) throw new Error(`There are ${tools.length} tools; a request takes ${MOST_TOOLS}.`);
  const names = new Set();
  tools.forEach((tool, place) => {
    const which = `Tool ${place + 1}`;
    if (!isObject(tool) || tool.type !== "function" || !isObject(tool.function)) throw new Error(`${which} must be {"type": "function", "function": {…}}.`);
    const { name, parameters } = tool.function;
    if (typeof name !== "string" || !/^[A-Za-z0-9_-]{1,64}$/.test(name)) throw new Error(`${which} needs a name of letters, digits, _ and -, at most 64.`);
    if (names.has(name)) throw new Error(`Two tools are called ${name}.`);
    names.add(name);
    if (parameters !== undefined) judgeSchema(parameters, `The parameters of ${name}`);
  });
}

function editor(id, judge, shaped) {
  const field = document.getElementById(id);
  const place = document.getElementById(`${id}-fault`);
  const isAsked = () => !field.closest("[hidden]");
  const fault = () => {
    if (!field.value.trim()) return id === "schema" ? "Write a schema, or take the example." : "";
    try {
      judge(parsed(field.value));
      return "";
    } catch (error) {
      return error.message;
    }
  };
  const tell = () => {
    const words = isAsked() ? fault() : "";
    place.hidden = !words;
    place.textContent = words;
    if (words) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    return words;
  };
  field.addEventListener("input", () => { if (field.value.trim()) tell(); else { place.hidden = true; field.removeAttribute("aria-invalid"); } });
  return {
    field,
    tell,
    value: () => (isAsked() && field.value.trim() && !fault() ? shaped(JSON.parse(field.value)) : null),
  };
}

const editors = {
  // A bare schema gets the name that the API wants; one with a name is left as it is.
  schema: editor("schema", (value) => judgeSchema(value.schema ?? value), (value) => (isObject(value.schema) ? value : { name: "answer", schema: value, strict: true })),
  tools: editor("tools", judgeTools, (value) => (value.length ? value : null)),
};

function areEditorsRight() {
  const wrong = Object.values(editors).filter((one) => one.tell());
  wrong[0]?.field.focus();
  return !wrong.length;
}

function showEditors() {
  document.getElementById("schema-field").hidden = document.getElementById("format").value !== "json_schema";
  for (const one of Object.values(editors)) if (one.field.value.trim()) one.tell();
}
document.getElementById("format").addEventListener("change", showEditors);
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => {
    const { field, tell } = editors[button.dataset.example];
    field.value = JSON.stringify(EXAMPLES[button.dataset.example], null, 2);
    field.dispatchEvent(new Event("change"));
    tell();
    field.focus();
  });
}
