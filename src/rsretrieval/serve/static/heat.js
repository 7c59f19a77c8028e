/** A picture, and over it where in it something is. */

import * as api from "./api.js";
import { el } from "./dom.js";

const STRENGTH = 60; // per cent

export class Heat {
  /** `terms` of the search are shown at once, unless null; then any text can be asked for. */
  constructor(item, terms, longest, signal) {
    Object.assign(this, { item, signal });
    this.said = el("p", { role: "status" });
    this.over = el("img", { class: "over", alt: "", hidden: true });
    const picture = el("img", { src: api.imageOf(item.key), alt: item.captions?.[0] ?? `The picture ${item.id}`,
      onerror: () => this.said.replaceChildren("The picture cannot be read; its file may have been moved.") });
    this.stage = el("div", { class: "stage" }, picture, this.over);
    this.stage.style.setProperty("--ratio", item.width / item.height);
    this.controls = item.heatmap ? this.#form(longest) : el("p", { class: "faint" }, `No heat map: ${item.heatmap_reason}. `, this.said);
    if (item.heatmap && terms) this.#show(terms, "what is looked for");
  }

  #form(longest) {
    const field = el("input", { maxlength: longest, placeholder: "another text", autocomplete: "off", required: true });
    const strength = el("input", { type: "range", min: 0, max: 100, value: STRENGTH, oninput: () => this.#fade(strength.value) });
    this.#fade(STRENGTH);
    const show = (event) => {
      event.preventDefault();
      const text = field.value.trim();
      this.#show(new URLSearchParams({ text }), `“${text}”`);
    };
    return el("form", { class: "heat", onsubmit: show }, el("div", { class: "line" },
      el("label", {}, "Where is ", field), el("button", {}, "Show"), el("label", {}, "Strength ", strength)), this.said);
  }

  #fade(strength) {
    this.over.style.opacity = strength / 100;
  }

  async #show(terms, what) {
    this.over.hidden = true;
    this.asked = terms;
    this.said.replaceChildren(`Looking where ${what} is…`);
    try {
      const address = await api.picture(api.heatOf(this.item.key, terms), this.signal);
      if (this.asked !== terms) {
        URL.revokeObjectURL(address);
        return;
      }
      this.over.onload = () => URL.revokeObjectURL(address);
      Object.assign(this.over, { src: address, alt: `Heat map: where ${what} is`, hidden: false });
      this.said.replaceChildren(`Over it: where ${what} is most. Everything has a highest place, whether it is there or not.`);
    } catch (error) {
      if (error.name !== "AbortError" && this.asked === terms) this.said.replaceChildren(error.message);
    }
  }
}
