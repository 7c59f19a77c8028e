/** What is looked for: the box, the picture that is dropped, pasted or chosen, and a chip for each term. */

import { thumbnailOf } from "./api.js";
import { byId, button, counted, el, idOf } from "./dom.js";
import { NO_TERMS, termsOf } from "./state.js";

const pictures = new Map(); // what stands for a picture in the address -> the picture itself, while the page is open

/** The box and its three buttons. */
export function startBox(store, limits, say) {
  const box = byId("box");
  box.maxLength = limits.text;
  const use = (name) => {
    const text = box.value.trim();
    if (!text) return box.focus();
    if (name === "search") return store.set({ ...NO_TERMS, text: [text] });
    if (!hasRoom(store.now, limits, say)) return undefined;
    box.value = "";
    if (!store.now[name].includes(text)) store.toggle(name, text);
    return undefined;
  };
  byId("search").addEventListener("submit", (event) => (event.preventDefault(), use("search")));
  byId("add").addEventListener("click", () => use("text"));
  byId("not").addEventListener("click", () => use("not"));
}

/** Whether one more term is allowed; if not it is said. */
export function hasRoom(state, limits, say) {
  if (termsOf(state) < limits.terms) return true;
  say(`A search has at most ${limits.terms} terms: take one out first.`);
  return false;
}

/** Show a state's terms as chips, and a single text in the box; what is typed stays while the texts do. */
export function showTerms(state, store, before) {
  const texts = (name, sign, words) => state[name].map((text) => {
    return chip(sign, words, text, el("span", {}, text), () => store.toggle(name, text));
  });
  const keys = (name, sign, words) => state[name].map((key) => {
    const id = idOf(key);
    const picture = el("img", { src: thumbnailOf(key), alt: "", title: id, draggable: "false" });
    return chip(sign, words, id, picture, () => store.toggle(name, key));
  });
  const chips = [
    ...texts("text", "+", "looked for:"), ...picturesOf(state, store), ...keys("like", "+", "more like"),
    ...texts("not", "−", "not:"), ...keys("unlike", "−", "less like"),
  ];
  if (chips.length) chips.push(el("li", {}, button("Clear", () => store.set(NO_TERMS), { id: "clear" })));
  if (byId("chips").contains(document.activeElement)) byId("box").focus(); // the button that was pressed goes
  byId("chips").replaceChildren(...chips);
  if (String(state.text) === String(before?.text)) return;
  byId("box").value = state.text.length === 1 && termsOf(state) === 1 ? state.text[0] : "";
}

function picturesOf(state, store) {
  return state.picture.map((token) => {
    const shown = pictures.get(token);
    const content = shown ? el("img", { src: shown, alt: "your picture" }) : el("span", {}, "your picture");
    return chip("+", "looked for:", "your picture", content, () => store.toggle("picture", token));
  });
}

function chip(sign, words, name, content, remove) {
  const kind = sign === "+" ? "for" : "against";
  const cross = button("×", remove, { "aria-label": `Take out: ${words} ${name}`, title: "Take it out" });
  const said = [el("span", { "aria-hidden": "true", class: "sign" }, sign), el("span", { class: "unseen" }, `${words} `)];
  return el("li", { class: `chip ${kind}` }, ...said, content, cross);
}

/** Keep a picture that was sent, to show it as long as the page is open. */
export const keepPicture = (token, file) => pictures.set(token, URL.createObjectURL(file));

/** Tell `use` of a picture that is dropped, pasted or chosen, and `say` why one is not used. */
export function startPictures(limits, use, say) {
  const take = (files) => {
    const file = [...files].find((one) => one.type.startsWith("image/")) ?? files[0];
    if (!file) return;
    if (file.size > limits.upload_bytes) {
      say(`The picture has ${counted(file.size)} bytes, more than the ${counted(limits.upload_bytes)} that are taken: make it smaller.`);
    } else use(file);
  };
  byId("file").addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    take(event.clipboardData.files);
  });
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (event, on) => {
    if (!carries(event)) return;
    event.preventDefault();
    document.body.classList.toggle("dropping", on);
  };
  document.addEventListener("dragover", (event) => mark(event, true));
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? mark(event, false));
  document.addEventListener("drop", (event) => {
    mark(event, false);
    if (carries(event)) take(event.dataTransfer.files);
  });
}
