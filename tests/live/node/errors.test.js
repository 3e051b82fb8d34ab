// Headers of a success, and errors as the client's own classes.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { ask, client, MODES, script } from "./gateway.js";

/** The refusal of a request, with what the client made of it. */
async function refusal(fields, options) {
  try {
    await ask(fields, options);
  } catch (error) {
    return error;
  }
  return assert.fail("the request was not refused");
}

for (const { mode, stream } of MODES) {
  test(`headers, ${mode}`, async () => {
    await script("main", {});
    const { headers } = await ask({ stream, top_k: 3, made_up: 1 }, { headers: { "x-request-id": `node-${mode}` } });
    assert.equal(headers.get("x-request-id"), `node-${mode}`);
    assert.equal(headers.get("x-model-used"), "main");
    assert.equal(headers.get("x-request-adaptations"), "ignored=made_up,dropped=top_k");
    assert.equal(headers.has("x-credits-used"), !stream);
    assert.match(headers.get("server-timing"), /^gateway;dur=\d+, upstream;dur=\d+$/);
  });

  test(`fallback, ${mode}`, async () => {
    await script("first", { status: 500 });
    await script("second", { text: "Served." });
    const answer = await ask({ stream, model: "first" });
    assert.deepEqual([answer.model, answer.text], ["second", "Served."]);
    assert.equal(answer.headers.get("x-model-used"), "second");
    assert.equal(answer.headers.get("x-fallback-from"), "first");
    assert.equal(answer.headers.get("x-fallback-depth"), "1");
  });

  test(`refusals, ${mode}`, async () => {
    const cases = [
      [{ temperature: 3 }, {}, OpenAI.BadRequestError, 400, "out_of_range", "temperature"],
      [{}, { headers: { authorization: "Bearer inf_wrong" } }, OpenAI.AuthenticationError, 401, "invalid_api_key", null],
      [{}, { headers: { authorization: `Bearer ${process.env.BROKE_KEY}` } }, OpenAI.APIError, 402, "insufficient_credits", null],
      [{ model: "no-such-model" }, {}, OpenAI.NotFoundError, 404, "model_not_found", "model"],
    ];
    for (const [fields, options, kind, status, code, param] of cases) {
      const error = await refusal({ stream, ...fields }, options);
      assert.ok(error instanceof kind, `${error}`);
      assert.deepEqual([error.status, error.code, error.param ?? null], [status, code, param]);
      assert.ok(error.requestID);
    }
  });

  test(`failures of the provider, ${mode}`, async () => {
    const cases = [
      [400, OpenAI.BadRequestError, 400, "upstream_rejected_request"],
      [429, OpenAI.RateLimitError, 429, "upstream_rate_limited"],
      [500, OpenAI.InternalServerError, 502, "upstream_error"],
      [503, OpenAI.InternalServerError, 503, "model_overloaded"],
    ];
    for (const [upstream, kind, status, code] of cases) {
      await script("alone", { status: upstream });
      const error = await refusal({ stream, model: "alone" });
      assert.ok(error instanceof kind, `${error}`);
      assert.deepEqual([error.status, error.code], [status, code]);
    }
  });

  test(`an idempotent repeat, ${mode}`, async () => {
    await script("main", { text: "once" });
    const options = { headers: { "idempotency-key": `node-${mode}-${Date.now()}` } };
    const first = await ask({ stream }, options);
    const again = await ask({ stream }, options);
    assert.equal(again.id, first.id);
    assert.equal(again.headers.get("idempotent-replayed"), "true");
    const error = await refusal({ stream, seed: 1 }, options);
    assert.ok(error instanceof OpenAI.UnprocessableEntityError, `${error}`);
  });
}

test("an error inside a stream", async () => {
  await script("alone", { text: "one two three four", cut_after: 3 });
  const stream = await client.chat.completions.create({ model: "alone", messages: [{ role: "user", content: "Count." }], stream: true });
  let text = "";
  await assert.rejects(
    async () => {
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
    },
    (error) => error instanceof OpenAI.APIError && error.code === "upstream_error",
  );
  assert.equal(text, "one two ");
});

test("models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes("main"));
  const model = await client.models.retrieve("main");
  assert.deepEqual([model.id, model.object, model.context_window], ["main", "model", 128000]);
});
