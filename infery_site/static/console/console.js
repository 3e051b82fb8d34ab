// What every page of the console needs: theme, drawer, dialogs, menus, copying, language tabs. No page needs it to be read.
const root = document.documentElement;

const stored = localStorage.getItem("theme");
if (stored === "light" || stored === "dark") root.dataset.theme = stored;

function say(text) {
  const place = document.getElementById("toast");
  if (!place) return;
  place.querySelector("span").textContent = text;
  place.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.hidden = true; }, 6000);
}

function switchTheme() {
  const isDark = root.dataset.theme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  document.dispatchEvent(new CustomEvent("themechange"));
}

function moveDrawer(isOpen) {
  const side = document.getElementById("side");
  side.classList.toggle("open", isOpen);
  document.getElementById("scrim").hidden = !isOpen;
  document.querySelector("[data-nav]").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) side.querySelector("a, button").focus();
  else document.querySelector("[data-nav]").focus();
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const text = source.textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without permission, or over plain HTTP: by the selection, as people do.
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    document.execCommand("copy");
  }
  const told = document.querySelector("[data-copied]");
  if (told && button.dataset.copy === "secret") told.textContent = "Copied";
  say("Copied");
}

function openMenu(button) {
  const menu = document.getElementById(button.getAttribute("popovertarget"));
  const place = button.getBoundingClientRect();
  const size = menu.getBoundingClientRect();
  const left = button.dataset.align === "end" ? place.right - size.width : place.left;
  menu.style.left = `${Math.max(8, Math.min(left, innerWidth - size.width - 8))}px`;
  const isBelow = place.bottom + size.height + 8 < innerHeight || place.top < size.height + 12;
  menu.style.top = `${isBelow ? place.bottom : place.top - size.height - 8}px`;
}

function selectTab(tab) {
  const list = tab.closest("[role=tablist]");
  for (const other of list.querySelectorAll("[role=tab]")) {
    const isChosen = other === tab;
    other.setAttribute("aria-selected", String(isChosen));
    other.tabIndex = isChosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !isChosen;
  }
  const button = list.parentElement.querySelector("[data-copy]");
  if (button) button.dataset.copy = tab.getAttribute("aria-controls");
}

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest(selector);
  let found;
  if (at("[data-theme-switch]")) switchTheme();
  else if (at("[data-nav]")) moveDrawer(!document.getElementById("side").classList.contains("open"));
  else if (at("#scrim")) moveDrawer(false);
  else if ((found = at("[data-open]"))) document.getElementById(found.dataset.open).showModal();
  else if ((found = at("[data-close]"))) found.closest("dialog").close();
  else if ((found = at("[data-copy]"))) copy(found);
  else if ((found = at("[data-dismiss]"))) found.parentElement.hidden = true;
  else if ((found = at("[role=tab]"))) selectTab(found);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.getElementById("side")?.classList.contains("open")) moveDrawer(false);
  const tab = event.target.closest?.("[role=tab]");
  if (!tab || (event.key !== "ArrowRight" && event.key !== "ArrowLeft")) return;
  const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
  const next = tabs[(tabs.indexOf(tab) + (event.key === "ArrowRight" ? 1 : tabs.length - 1)) % tabs.length];
  next.focus();
  selectTab(next);
});

for (const button of document.querySelectorAll("[popovertarget]")) {
  document.getElementById(button.getAttribute("popovertarget")).addEventListener("toggle", (event) => {
    button.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState === "open") openMenu(button);
  });
}

// A dialog that is to be open from the start. The one with a new key is closed by its button alone.
for (const dialog of document.querySelectorAll("dialog")) {
  if (dialog.getAttribute("closedby") === "none") {
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("keydown", (event) => { if (event.key === "Escape") event.preventDefault(); });
  }
  // Reloading must not make the thing once more.
  if (dialog.dataset.leave) history.replaceState(null, "", dialog.dataset.leave);
  if ("start" in dialog.dataset) dialog.showModal();
}

// A form that chooses what a page shows is sent as soon as something is chosen.
for (const field of document.querySelectorAll("[data-submit]")) field.addEventListener("change", () => field.form.requestSubmit());

// Typing in a field that belongs to one of several choices chooses it.
for (const field of document.querySelectorAll("[data-chooses]")) {
  field.addEventListener("input", () => { if (field.value) document.getElementById(field.dataset.chooses).checked = true; });
}

// A page that only leads on to another one does so by itself; coming back to it does not.
const forward = document.querySelector("a[data-forward]");
if (forward) {
  history.replaceState(null, "", location.pathname);
  location.assign(forward.href);
}

// Nothing is sent twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if ("busy" in form.dataset) event.preventDefault();
  form.dataset.busy = "";
  event.submitter?.setAttribute("aria-busy", "true");
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-busy]")) delete form.dataset.busy;
});

// Moments are written in UTC by the server; the reader's own zone stands in their title.
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  time.title = at.toLocaleString("en-GB", { dateStyle: "full", timeStyle: "long" });
}
