// Elements, made of text: nothing that is shown ever becomes HTML.

export const byId = (id) => document.getElementById(id);

/** An element with these properties and children; `data` are its data attributes, `aria` its ARIA ones. */
export function element(tag, { data = {}, aria = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(name === "role" ? name : `aria-${name}`, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Set an element's text, touching the page only if it is another one. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Run something with the next frame of the screen, once however often it is asked for; a hidden page waits. */
export function soon(work) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      work();
    });
  };
}

/** A row that opens: what is inside is made when it is opened first. */
export function disclosure(summary, fill, isOpen = false) {
  const row = element("details", {}, element("summary", {}, ...summary));
  const open = () => row.open && row.childElementCount === 1 && row.append(...fill());
  row.addEventListener("toggle", open);
  row.open = isOpen;
  if (isOpen) open();
  return row;
}
