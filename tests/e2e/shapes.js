// Every shape of the page, as a number, and in `window.shapes` an element that has it.
//
// A shape is what an element is, with all that it stands in: its name, its attributes without the values that only tell rows
// apart, the classes that a stylesheet knows, whether it has a text, a name and a label. What axe says of an element it says of
// all that have its shape, but for what depends on how much there is: the distance of targets, and regions that scroll.
//
// With `html` it is the shapes of that text, before any script: they say besides which scripts it has, and where the text of an
// attack stands. A page that has none but those of pages that were opened is made by the same scripts and styles from text in the
// same places.
(html) => {
  const page = html ? new DOMParser().parseFromString(html, 'text/html') : document;
  const VALUES = new Set([
    'role', 'type', 'hidden', 'disabled', 'tabindex', 'scope', 'lang', 'autocomplete', 'aria-hidden', 'aria-expanded',
    'aria-pressed', 'aria-selected', 'aria-disabled', 'aria-invalid', 'aria-checked', 'aria-current',
  ]);

  const styled = new Set();
  const note = (rules) => {
    for (const rule of rules) {
      for (const [, name] of (rule.selectorText ?? '').matchAll(/\.((?:[\w-]|\\.)+)/g)) styled.add(name.replaceAll('\\', ''));
      if (rule.cssRules) note(rule.cssRules);
    }
  };
  for (const sheet of document.styleSheets) note(sheet.cssRules);
  const counts = (name) => !styled.size || styled.has(name); // of no page that is open all count

  // 53 bits, so that two shapes of a site do not meet by chance.
  const hash = (text, above) => {
    let high = 0x9e3779b9 ^ above, low = 0x85ebca6b ^ (above / 2 ** 21);
    for (let index = 0; index < text.length; index++) {
      high = Math.imul(high ^ text.charCodeAt(index), 0x01000193);
      low = Math.imul(low ^ text.charCodeAt(index), 0x5bd1e995);
    }
    return (high >>> 0) * 2 ** 21 + (low >>> 11);
  };

  const refersToNothing = (element) => ['aria-labelledby', 'aria-describedby', 'aria-controls', 'for', 'headers'].some((name) =>
    (element.getAttribute(name) ?? '').split(' ').some((id) => id && !page.getElementById(id)));

  const isNamed = (element) => element.querySelector('[alt]:not([alt=""]), [aria-label]:not([aria-label=""]), title') !== null;

  const attacks = (text) => html && text.includes('xss') ? '!' : '';
  const ownText = (element) => [...element.childNodes].map((node) => node.nodeType === Node.TEXT_NODE ? node.data : '').join('');

  const shapes = new Map();
  const walk = (element, above) => {
    const isScript = html && element.localName === 'script';
    const says = (name) => VALUES.has(name) || element.localName === 'meta' || (isScript && name === 'src');
    const attributes = [...element.attributes].map(({name, value}) =>
      (says(name) || !value ? `${name}=${value}` : name) + attacks(value));
    const own = ownText(element);
    const shape = hash([
      element.localName, attributes.sort(), [...element.classList].filter(counts).sort(),
      /\S/.test(element.textContent), /\S/.test(own), attacks(own), isNamed(element), element.labels?.length,
      refersToNothing(element),
    ].join('|'), above);
    if (!shapes.has(shape)) shapes.set(shape, element);
    for (const child of element.children) walk(child, shape);
  };
  // Under other stylesheets everything may look otherwise.
  const sheets = [...page.querySelectorAll('link[rel=stylesheet], style')].map((sheet) => sheet.href || sheet.textContent);
  walk(page.documentElement, hash(sheets.join('|'), 0));
  if (!html) window.shapes = shapes;
  return [...shapes.keys()];
}
