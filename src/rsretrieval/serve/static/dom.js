/** Elements and texts. What comes from an archive is only ever put in as text, never as HTML. */

/**
 * An element. Attributes by name, `on…` a listener; null and false leave one out. Children are nodes or texts.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

/** The element of an id of index.html. */
export const byId = (id) => document.getElementById(id);

/** A button that is no form's. */
export const button = (label, onclick, attributes = {}) => el("button", { type: "button", onclick, ...attributes }, label);

/** Whether a key pressed there is typed into a field. */
export const isTyping = (target) => target.matches("input:not([type=checkbox], [type=range], [type=file]), textarea, select");

/** Whether a key comes with another that makes it a shortcut of the browser. */
export const isChord = (event) => event.ctrlKey || event.metaKey || event.altKey;

/** Whether the reader wants things not to move. */
export const isStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** 3969 as 3,969. */
export const counted = (number) => number.toLocaleString("en");

/** `1 row`, `3,969 rows`. */
export const many = (number, thing) => `${counted(number)} ${thing}${number === 1 ? "" : "s"}`;

/** A score, or nothing where there is none. */
export const scored = (score) => (score === null || score === undefined ? "" : score.toFixed(3));

/** A z with its sign. */
export const signed = (z) => (z === null || z === undefined ? "" : `z ${z < 0 ? "−" : "+"}${Math.abs(z).toFixed(1)}`);

/** Degrees north and east in words. */
export function placed([lon, lat], digits = 5) {
  const part = (value, up, down) => `${Math.abs(value).toFixed(digits)}° ${value < 0 ? down : up}`;
  return `${part(lat, "N", "S")}, ${part(lon, "E", "W")}`;
}

/** The id that a key stands for; the key itself if it is none. */
export function idOf(key) {
  try {
    const bytes = Uint8Array.from(atob(key.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return key;
  }
}
