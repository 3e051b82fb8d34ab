// Fields with a list to search in bear the name of their label, which the library that draws them leaves out.
function nameFields() {
  for (const shown of document.querySelectorAll(".select2-selection__rendered[role=textbox]")) {
    const box = shown.closest("[role=combobox]");
    const field = shown.closest(".select2-container").previousElementSibling;
    const label = field?.labels?.[0];
    box.setAttribute("aria-controls", `select2-${field?.id}-results`);
    if (!label) continue;
    label.id ||= `label-${field.id}`;
    for (const named of [shown, box]) named.setAttribute("aria-labelledby", `${label.id} ${shown.id}`);
  }
  for (const search of document.querySelectorAll(".select2-search__field")) search.setAttribute("aria-label", "Search");
  for (const list of document.querySelectorAll(".select2-results__options")) list.setAttribute("aria-label", "Choices");
}
// Whenever they are drawn: with the page, with a further row of a form, with what a search fetches.
new MutationObserver(nameFields).observe(document.documentElement, { childList: true, subtree: true });
