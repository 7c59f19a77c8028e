/** The map's part of the page: opening it, on a narrow page by a button, and the two ways to a box. */

import { byId } from "./dom.js";
import { draw } from "./drawing.js";
import { ResultsMap } from "./map.js";

/** The map of an archive with places, or null where it cannot be drawn; `acts` as of ResultsMap. */
export async function openPlace(about, acts, store) {
  byId("place").hidden = byId("show-map").hidden = false;
  try {
    const map = await ResultsMap.open(about, acts);
    startBoxes(map, store);
    return map;
  } catch (error) {
    byId("map").textContent = `The map is not shown: ${error.message || "it needs WebGL"}.`;
    return null;
  }
}

function startBoxes(map, store) {
  const button = byId("draw");
  let away = null;
  const stop = () => {
    away?.();
    away = null;
    button.setAttribute("aria-pressed", "false");
  };
  const show = (isOpen) => {
    document.body.classList.toggle("with-map", isOpen);
    byId("show-map").setAttribute("aria-expanded", isOpen);
    map.fit();
  };
  button.addEventListener("click", () => {
    if (away) return stop();
    show(true);
    button.setAttribute("aria-pressed", "true");
    away = draw(map.map, (box) => (stop(), store.set({ box })));
    return undefined;
  });
  addEventListener("keydown", (event) => event.key === "Escape" && stop());
  byId("view").addEventListener("click", () => store.set({ box: map.view() }));
  byId("show-map").addEventListener("click", () => show(!document.body.classList.contains("with-map")));
}
