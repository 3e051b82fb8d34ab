// Answers: text, tools, JSON, images, in both modes, through the official client.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, client, MODES, newestCall, script } from "./gateway.js";

const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const SCHEMA = {
  type: "json_schema",
  json_schema: {
    name: "place",
    strict: true,
    schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false },
  },
};
const PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

for (const { mode, stream } of MODES) {
  test(`text, ${mode}`, async () => {
    await script("main", { text: "Grüße, 你好 and 👋.", usage: { prompt_tokens: 11, completion_tokens: 7 } });
    const answer = await ask({ stream });
    assert.equal(answer.text, "Grüße, 你好 and 👋.");
    assert.equal(answer.finishReason, "stop");
    assert.equal(answer.usage.total_tokens, 18);
    assert.equal(answer.credits, 0.00975);
  });

  test(`tools round trip, ${mode}`, async () => {
    await script("main", { tool_calls: [{ name: "get_weather", arguments: '{"city": "Rome"}', id: "call_1" }] }, { text: "It is sunny." });
    const question = { role: "user", content: "How is Rome?" };
    const first = await ask({ stream, messages: [question], tools: [WEATHER], tool_choice: "auto" });
    assert.equal(first.finishReason, "tool_calls");
    assert.deepEqual(first.calls, [["call_1", "get_weather", '{"city": "Rome"}']]);
    const [id, name, text] = first.calls[0];
    const turn = { role: "assistant", content: null, tool_calls: [{ id, type: "function", function: { name, arguments: text } }] };
    const result = { role: "tool", tool_call_id: id, content: "sunny" };
    const second = await ask({ stream, messages: [question, turn, result], tools: [WEATHER] });
    assert.equal(second.text, "It is sunny.");
  });

  test(`JSON mode, ${mode}`, async () => {
    await script("main", { text: '{"ok": true}' });
    const answer = await ask({ stream, response_format: { type: "json_object" } });
    assert.deepEqual(JSON.parse(answer.text), { ok: true });
  });

  test(`JSON schema, ${mode}`, async () => {
    await script("main", { text: '{"city": "Rome"}' });
    const answer = await ask({ stream, response_format: SCHEMA });
    assert.deepEqual(JSON.parse(answer.text), { city: "Rome" });
    assert.deepEqual((await newestCall()).response_format, SCHEMA);
  });

  test(`inline image, ${mode}`, async () => {
    await script("main", { text: "One pixel." });
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: PIXEL, detail: "low" } },
    ];
    const answer = await ask({ stream, messages: [{ role: "user", content }] });
    assert.equal(answer.text, "One pixel.");
    assert.deepEqual((await newestCall()).messages[0].content, content);
  });

  test(`stop and length, ${mode}`, async () => {
    const messages = [{ role: "user", content: "one two three four" }];
    const stopped = await ask({ stream, model: "sandbox-echo", messages, stop: ["three"] });
    assert.deepEqual([stopped.text, stopped.finishReason], ["one two ", "stop"]);
    const cut = await ask({ stream, model: "sandbox-echo", messages, max_completion_tokens: 2 });
    assert.deepEqual([cut.text, cut.finishReason], ["one two ", "length"]);
  });
}

test("the client's own helper for schemas", async () => {
  await script("main", { text: '{"city": "Oslo"}' });
  const messages = [{ role: "user", content: "Hello" }];
  const reply = await client.chat.completions.parse({ model: "main", messages, response_format: SCHEMA });
  assert.equal(reply.choices[0].message.content, '{"city": "Oslo"}');
});

test("the client's own helper for streams", async () => {
  await script("main", { text: "one two three" });
  const runner = client.chat.completions.stream({ model: "main", messages: [{ role: "user", content: "Count." }] });
  const deltas = [];
  runner.on("content", (delta) => deltas.push(delta));
  assert.equal(await runner.finalContent(), "one two three");
  assert.equal(deltas.join(""), "one two three");
  assert.equal((await runner.finalChatCompletion()).choices[0].finish_reason, "stop");
});

test("the client's own helper that runs tools", async () => {
  await script("main", { tool_calls: [{ name: "get_weather", arguments: '{"city": "Rome"}', id: "call_1" }] }, { text: "It is sunny." });
  const cities = [];
  const tool = { ...WEATHER, function: { ...WEATHER.function, parse: JSON.parse, function: ({ city }) => (cities.push(city), "sunny") } };
  const runner = client.chat.completions.runTools({ model: "main", messages: [{ role: "user", content: "How is Rome?" }], tools: [tool], stream: true });
  assert.equal(await runner.finalContent(), "It is sunny.");
  assert.deepEqual(cities, ["Rome"]);
});
