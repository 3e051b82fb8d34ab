// What the suites beside this file share: the client, the script of the provider, and one shape for an answer in both modes.
// The addresses and the key come from the environment, which tests/live/test_node_sdk.py sets.

import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import OpenAI from "openai";

export const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0, timeout: 20_000 });

export const MODES = [
  { mode: "whole", stream: false },
  { mode: "stream", stream: true },
];

/** Answers the provider's next calls for a model with these scripts; see tests/fakes/script.py. */
export async function script(model, ...scripts) {
  const url = `${process.env.PROVIDER_URL}/_control/scripts/${model}`;
  const response = await fetch(url, { method: "PUT", body: JSON.stringify(scripts) });
  assert.equal(response.status, 200);
}

/** The body of the newest call that reached the provider. */
export async function newestCall() {
  const seen = await (await fetch(`${process.env.PROVIDER_URL}/_control/requests`)).json();
  return JSON.parse(Buffer.from(seen.at(-1).body, "base64").toString());
}

/** Asks for one answer; `fields` are those of the API. */
export async function ask(fields, options = {}) {
  const messages = [{ role: "user", content: "Hello" }];
  const { data, response } = await client.chat.completions.create({ model: "main", messages, ...fields }, options).withResponse();
  const answer = fields.stream ? await readStream(data) : readWhole(data);
  answer.headers = response.headers;
  appendFileSync(process.env.BOOKED_FILE, `${JSON.stringify({ id: answer.id, credits: answer.credits })}\n`);
  return answer;
}

function readWhole(reply) {
  const [{ message, finish_reason: finishReason }] = reply.choices;
  assert.equal(reply.object, "chat.completion");
  return {
    id: reply.id,
    model: reply.model,
    text: message.content ?? "",
    calls: (message.tool_calls ?? []).map((call) => [call.id, call.function.name, call.function.arguments]),
    finishReason,
    usage: reply.usage,
    credits: reply.credits_used,
  };
}

/** Reads a stream to its end and checks the order of its chunks: role, content, finish reason, credits. */
async function readStream(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.deepEqual(chunks[0].choices[0].delta.role, "assistant");
  const answer = { id: last.id, model: last.model, text: "", calls: [], finishReason: null, usage: last.usage, credits: last.credits_used };
  for (const chunk of chunks) {
    assert.equal(chunk.object, "chat.completion.chunk");
    assert.equal(chunk.id, last.id);
    assert.equal(chunk.usage ?? null, null);
    assert.equal(answer.finishReason, null, "nothing follows the finish reason");
    const [{ delta, finish_reason: finishReason }] = chunk.choices;
    answer.text += delta.content ?? "";
    answer.finishReason = finishReason;
    for (const piece of delta.tool_calls ?? []) {
      if (piece.id) answer.calls[piece.index] = [piece.id, piece.function.name, ""];
      answer.calls[piece.index][2] += piece.function.arguments ?? "";
    }
  }
  return answer;
}
