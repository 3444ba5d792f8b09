// Make `here` what `wanted` is, and touch nothing that is so already: focus, scrolling, what was typed and what was
// ticked stay. Rows go by their job.
export function morph(here, wanted) {
  if (here.isEqualNode(wanted)) return;
  if (here.nodeName !== wanted.nodeName || key(here) !== key(wanted)) {
    here.replaceWith(document.importNode(wanted, true));
    return;
  }
  if (here.nodeType !== Node.ELEMENT_NODE) {
    here.nodeValue = wanted.nodeValue;
    return;
  }
  attributes(here, wanted);
  children(here, wanted);
}

const key = (node) => node.dataset?.job ?? node.id ?? "";

function attributes(here, wanted) {
  for (const { name } of [...here.attributes]) if (!wanted.hasAttribute(name)) here.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (here.getAttribute(name) !== value) here.setAttribute(name, value);
}

function children(here, wanted) {
  const kept = new Map([...here.children].filter(key).map((child) => [key(child), child]));
  let place = here.firstChild;
  for (const child of [...wanted.childNodes]) {
    const mine = key(child) && kept.get(key(child));
    if (mine && mine !== place) here.insertBefore(mine, place);
    else if (!mine && place && (key(child) || key(place))) {
      here.insertBefore(document.importNode(child, true), place);
      continue;
    }
    const old = mine || place;
    if (!old) here.append(document.importNode(child, true));
    else {
      place = old.nextSibling;
      morph(old, child);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}
