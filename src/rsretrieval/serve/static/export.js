/** Results as files: those that are selected, or those that are shown. */

import { exportOf, picture } from "./api.js";
import { button, byId, el, many } from "./dom.js";
import { queryOf } from "./state.js";

const FORMATS = { geojson: "GeoJSON", csv: "CSV", png: "PNG" };

async function download(format, state, shown, say) {
  try {
    const address = await picture(exportOf(format, queryOf(state), shown, state.pick));
    el("a", { href: address, download: `answers.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000); // when it is saved
  } catch (error) {
    say(error.message);
  }
}

/** Buttons for a state of which `shown` results are there. */
export function showExport(store, shown, most, say) {
  const state = store.now;
  const count = state.pick.length;
  const save = (format) => () => download(format, store.now, Math.min(shown, most), say);
  byId("export").hidden = !shown && !count;
  byId("export").replaceChildren(
    el("span", { class: "faint" }, count ? `Export ${many(count, "selected row")}:` : `Export the first ${Math.min(shown, most)}:`),
    ...Object.entries(FORMATS).map(([format, name]) => button(name, save(format))),
    count ? button("Select none", () => store.set({ pick: [] })) : "",
  );
}
