/** One result: its picture, where the query is in it, what is known of it, its surroundings and its neighbours. */

import * as api from "./api.js";
import { button, el, isChord, isTyping, placed, scored, signed } from "./dom.js";
import { Heat } from "./heat.js";
import { addressOf, isSearch, termsIn } from "./state.js";

const MARGINS = [1, 2, 4]; // widths of the tile on each side

export class Detail {
  /** `acts`: `more`, `less`, `pick` and `beside` (a key and a step), `known` (the result of a key, if it is shown), `closed` (the key). */
  constructor(dialog, store, limits, acts) {
    Object.assign(this, { dialog, store, limits, acts, key: "", turn: new AbortController() });
    dialog.addEventListener("close", () => this.#left());
    dialog.addEventListener("keydown", (event) => this.#pressed(event));
    dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close()); // beside it
  }

  /** Show the result of a key; close it for an empty one. */
  async show(key) {
    this.turn.abort();
    this.turn = new AbortController();
    const { signal } = this.turn;
    this.key = key;
    if (!key) return this.dialog.close();
    this.dialog.replaceChildren(this.#head("…"), el("p", { role: "status" }, "Looking it up…"));
    if (!this.dialog.open) this.dialog.showModal();
    try {
      this.#fill(await api.item(key, signal), signal);
    } catch (error) {
      if (error.name !== "AbortError") this.dialog.replaceChildren(this.#head("Not shown"), el("p", { role: "alert" }, error.message));
    }
    return undefined;
  }

  #fill(item, signal) {
    const known = { ...item, ...this.#figures(item.key) };
    const heat = new Heat(item, isSearch(this.store.now) ? termsIn(this.store.now) : null, this.limits.text, signal);
    const { more, less, pick } = this.acts;
    const isPicked = this.store.now.pick.includes(item.key);
    const select = el("input", { type: "checkbox", checked: isPicked, onchange: () => pick(item.key) });
    this.dialog.replaceChildren(
      this.#head(item.id),
      el("div", { class: "columns" },
        el("div", {}, heat.stage, heat.controls),
        el("div", {},
          el("div", { class: "line" }, button("More like this", () => more(item.key)), button("Less like this", () => less(item.key)),
            el("label", {}, select, " Select")),
          captions(item), facts(known), this.#neighbours(item.neighbours), item.id === item.source ? "" : surroundings(item, signal))),
    );
    this.dialog.querySelector("h2").focus();
  }

  #head(title) {
    const step = (label, by) => button(label, () => this.#step(by), { disabled: !this.acts.beside(this.key, by) });
    return el("div", { class: "line head" }, el("h2", { tabindex: "-1" }, title),
      step("Previous", -1), step("Next", 1), button("Close", () => this.dialog.close(), { class: "main" }));
  }

  #figures(key) {
    const { score = null, z = null } = this.acts.known(key) ?? {};
    return { score, z };
  }

  #neighbours(items) {
    const link = (item) => el("a", { href: addressOf({ ...this.store.now, item: item.key }), title: item.id, onclick: (event) => {
      if (isChord(event) || event.shiftKey) return;
      event.preventDefault();
      this.store.set({ item: item.key });
    } }, el("img", { src: api.thumbnailOf(item.key), alt: item.id, loading: "lazy" }));
    if (!items.length) return "";
    return el("section", {}, el("h3", {}, "Neighbours: what looks most like it"),
      el("ul", { class: "neighbours" }, ...items.map((item) => el("li", {}, link(item)))));
  }

  #step(by) {
    const next = this.acts.beside(this.key, by);
    if (next) this.store.set({ item: next }, { replace: true });
  }

  #left() {
    this.turn.abort();
    const { key } = this;
    this.key = "";
    this.dialog.replaceChildren();
    if (this.store.now.item) this.store.set({ item: "" });
    this.acts.closed(key);
  }

  #pressed(event) {
    if (isChord(event) || isTyping(event.target) || event.target.type === "range") return;
    const acts = { ArrowRight: () => this.#step(1), ArrowLeft: () => this.#step(-1), m: () => this.acts.more(this.key),
      l: () => this.acts.less(this.key), s: () => this.dialog.querySelector("input[type=checkbox]")?.click() };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }
}

function captions({ captions: sentences }) {
  if (!sentences?.length) return "";
  return el("section", {}, el("h3", {}, "Captions"), el("ul", { class: "captions" }, ...sentences.map((text) => el("li", {}, text))));
}

function facts(item) {
  const rows = {
    Score: scored(item.score),
    "How sure": item.z === null ? "" : `${signed(item.z)}${item.z < 2 ? ", no better than chance" : ""}`,
    Scene: item.scene,
    Taken: item.datetime?.replace("T", " ").slice(0, 16),
    Centre: item.centre && placed(item.centre),
    Source: item.source,
    Size: `${item.width} × ${item.height} pixels`,
    "In its file": item.pixel_bbox && `pixels ${item.pixel_bbox.join(", ")}`,
  };
  const shown = Object.entries(rows).filter(([, value]) => value);
  return el("dl", { class: "facts" }, ...shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** The tile in its scene, read when it is asked for. */
function surroundings({ key }, signal) {
  const margin = el("select", {}, ...MARGINS.map((width) => el("option", { value: width }, `${width}`)));
  const place = el("div", { "aria-live": "polite" });
  const load = async () => {
    place.replaceChildren("Reading…");
    try {
      const address = await api.picture(api.surroundingsOf(key, margin.value), signal);
      place.replaceChildren(el("img", { src: address, alt: "The tile and what is around it", onload: () => URL.revokeObjectURL(address) }));
    } catch (error) {
      if (error.name !== "AbortError") place.replaceChildren(error.message);
    }
  };
  margin.addEventListener("change", load);
  const whole = el("details", { class: "surroundings" }, el("summary", {}, "Surroundings"),
    el("label", {}, "Widths of the tile on each side ", margin), place);
  whole.addEventListener("toggle", () => whole.open && load());
  return whole;
}
