/** The results as cards: by mouse, by touch and by keys. One card is in the order of Tab; arrows go to others. */

import { thumbnailOf } from "./api.js";
import { button, el, isChord, isStill, isTyping, many, placed, scored, signed } from "./dom.js";
import { addressOf } from "./state.js";

const WEAK = 2; // a z below is no better than chance

export class Grid {
  /**
   * @param list the `<ol>`.
   * @param acts what is done with a key: `open`, `more`, `less`, `pick`, `hover` (null for none), and `end` at the last card.
   */
  constructor(list, store, acts) {
    Object.assign(this, { list, store, acts, cards: new Map() });
    list.addEventListener("keydown", (event) => this.#pressed(event));
    list.addEventListener("focusin", ({ target }) => this.#current(target.closest(".card")));
    for (const name of ["focusin", "mouseover"]) {
      list.addEventListener(name, ({ target }) => acts.hover(target.closest(".card")?.dataset.key ?? null, name === "focusin"));
    }
    for (const name of ["focusout", "mouseleave"]) list.addEventListener(name, () => acts.hover(null, false));
  }

  /** Show results in place of all, or after those there are; `colours` of all that are shown then. */
  show(items, colours, isMore) {
    const held = this.list.contains(document.activeElement) ? document.activeElement.closest(".card").dataset.key : null;
    if (!isMore) this.#clear();
    for (const item of items) {
      if (this.cards.has(item.key)) continue;
      const card = this.#card(item, this.cards.size + 1);
      this.cards.set(item.key, card);
      this.list.append(card);
    }
    for (const [key, card] of this.cards) card.style.setProperty("--shade", colours.get(key));
    if (!this.list.querySelector("[tabindex='0']")) this.#current(this.list.firstElementChild);
    this.mark(this.store.now.pick);
    if (held && !isMore && this.cards.size) this.#go(this.cards.get(held) ?? this.list.firstElementChild);
  }

  /** Which cards are selected. */
  mark(picked) {
    for (const [key, card] of this.cards) card.querySelector("input").checked = picked.includes(key);
  }

  /** Mark the card that the map points to, and bring it into sight. */
  point(key, { isFocus = false } = {}) {
    this.list.querySelector(".pointed")?.classList.remove("pointed");
    const card = this.cards.get(key);
    if (!card) return;
    card.classList.add("pointed");
    if (isFocus) this.#go(card);
    else card.scrollIntoView({ block: "nearest", behavior: isStill() ? "auto" : "smooth" });
  }

  /** The key after or before one, or undefined. */
  beside(key, step) {
    const keys = [...this.cards.keys()];
    const place = keys.indexOf(key);
    return place < 0 ? undefined : keys[place + step];
  }

  #clear() {
    this.cards.clear();
    this.list.replaceChildren();
  }

  #card(item, rank) {
    const { key } = item;
    const stop = (act) => () => act(key);
    const open = (event) => {
      if (isChord(event) || event.shiftKey) return; // in a new tab, by the browser
      event.preventDefault();
      this.acts.open(key);
    };
    const picture = el("img", { src: thumbnailOf(key), alt: "", loading: "lazy", draggable: "false", width: 256, height: 256,
      onerror: ({ target }) => target.classList.add("broken") });
    const figures = el("span", { class: "figures" }, el("span", {}, `${rank}. ${scored(item.score)}`),
      el("span", { class: item.z !== null && item.z < WEAK ? "weak" : "" }, signed(item.z)));
    const href = addressOf({ ...this.store.now, item: key });
    const name = el("span", { class: "name", title: item.id }, nameOf(item));
    const link = el("a", { class: "open", href, tabindex: "-1", draggable: "false", onclick: open }, picture, figures, name);
    const inner = { tabindex: "-1" };
    const select = el("input", { type: "checkbox", ...inner, onchange: stop(this.acts.pick) });
    return el("li", { class: "card", "data-key": key }, link, el("div", { class: "acts" },
      button("More", stop(this.acts.more), { ...inner, title: "More like this (m)", "aria-label": `More like result ${rank}` }),
      button("Less", stop(this.acts.less), { ...inner, title: "Less like this (l)", "aria-label": `Less like result ${rank}` }),
      el("label", { title: "Select for export (s)" }, select, el("span", { class: "unseen" }, `Select result ${rank}`))));
  }

  #current(card) {
    if (!card) return;
    for (const node of this.list.querySelectorAll("[tabindex='0']")) node.tabIndex = -1;
    for (const node of card.querySelectorAll("a, button, input")) node.tabIndex = 0;
  }

  #go(card) {
    this.#current(card);
    card.querySelector(".open").focus();
  }

  #pressed(event) {
    const card = event.target.closest(".card");
    if (!card || isChord(event) || isTyping(event.target)) return;
    const cards = [...this.list.children];
    const inRow = cards.filter((other) => other.offsetTop === cards[0].offsetTop).length;
    const place = cards.indexOf(card);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: inRow, ArrowUp: -inRow, Home: -place, End: cards.length - 1 - place };
    const acts = { m: "more", l: "less", s: "pick" };
    if (event.key in steps) {
      const next = cards[place + steps[event.key]];
      if (next) this.#go(next);
      else if (steps[event.key] > 0) this.acts.end();
    } else if (acts[event.key]) this.acts[acts[event.key]](card.dataset.key);
    else return;
    event.preventDefault();
  }
}

/** What tells it from others: its caption, of a tile its place, of a picture its scene or its file. */
function nameOf(item) {
  const isTile = item.id !== item.source;
  const words = item.captions?.[0] ?? (isTile && item.centre ? placed(item.centre, 3) : null) ?? item.scene ?? item.source.split("/").pop();
  return item.datetime ? `${item.datetime.slice(0, 10)} ${words}` : words;
}

/** How many there are, and how sure the best is; of none the answer's message tells. */
export function summary(answer, shown, isSearch) {
  if (!shown) return "";
  if (answer.nothing_matches) return `${answer.message ?? `Nothing here matches: the best has ${signed(answer.best_z)}.`} The nearest:`;
  const rows = many(answer.total, "row");
  if (!isSearch) return `${rows}, in the archive's order`;
  return `The best ${shown} of ${rows}${answer.best_z === null ? "" : `; the best has ${signed(answer.best_z)}`}`;
}
