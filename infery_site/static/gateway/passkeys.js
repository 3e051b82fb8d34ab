// Passkeys on a page: whether it can have any, and in words why not, or what went wrong with one. The ceremony is allauth's.
(() => {
  const buttons = [...document.querySelectorAll("[data-passkey]")];
  const note = document.getElementById("passkey-note");
  const { hostname, port, pathname } = location;
  const isAddress = /^[\d.]+$/.test(hostname) || hostname.startsWith("[");
  const isLoopback = /^127\./.test(hostname) || hostname === "[::1]";

  const FAILED = {
    NotAllowedError: "No passkey was used: it was cancelled, took too long, or this device has none that fits.",
    InvalidStateError: "This device has a passkey of your account already.",
    SecurityError: "The browser does not allow passkeys at this address.",
    ConstraintError: "This device cannot keep such a passkey. Use another one.",
    NotSupportedError: "This device cannot keep such a passkey. Use another one.",
  };
  const UNANSWERED = "The gateway did not answer. Wait a minute, then try again.";

  function say(text, kind, link) {
    const line = document.createElement("p");
    line.className = kind;
    line.append(text);
    if (link) line.append(link, ".");
    note.replaceChildren(line);
  }

  function localhost() {
    const link = document.createElement("a");
    link.href = `http://localhost${port ? `:${port}` : ""}${pathname}`;
    link.textContent = link.host;
    return link;
  }

  function explained() {
    if (isAddress && isLoopback) say(`Passkeys need https or localhost, and this is ${hostname}. On this machine they work at `, "why", localhost());
    else if (isAddress) say(`Passkeys need https and a host name. This page was opened by the address ${hostname}.`, "why");
    else if (!isSecureContext) say("Passkeys need https. This page was opened over http.", "why");
    else if (!window.PublicKeyCredential) say("This browser does not know passkeys.", "why");
    else return false;
    return true;
  }

  function wait(isWaiting) {
    for (const button of buttons) button.setAttribute("aria-busy", String(isWaiting));
  }

  if (!note || explained()) return;
  for (const button of buttons) {
    button.disabled = false;
    // Before allauth's own listener, which would ask a second time.
    button.addEventListener("click", (event) => {
      if (button.getAttribute("aria-busy") === "true") {
        event.preventDefault();
        event.stopImmediatePropagation();
        return;
      }
      wait(true);
      say("Your browser or device asks you for the passkey now.", "why");
    }, { capture: true });
    // Enter in a field asks for the passkey too, instead of sending the form without one.
    button.form?.addEventListener("submit", (event) => {
      event.preventDefault();
      button.click();
    });
  }
  document.addEventListener("allauth.error", (event) => {
    const { name } = event.detail.exception;
    event.preventDefault();
    wait(false);
    say(FAILED[name] ?? UNANSWERED, "failed");
  });
  // Back from the page that it led to
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    wait(false);
    note.replaceChildren();
  });
})();
