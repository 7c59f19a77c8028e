/** The page: what it is made of, and who tells whom. */

import * as api from "./api.js";
import { shades } from "./colours.js";
import { Detail } from "./detail.js";
import { byId, counted, isChord, isTyping } from "./dom.js";
import { showExport } from "./export.js";
import { showFilters, startFilters } from "./filters.js";
import { Grid, summary } from "./grid.js";
import { openPlace } from "./place.js";
import { Search } from "./search.js";
import { isSearch, queryOf, Store } from "./state.js";
import { hasRoom, keepPicture, showTerms, startBox, startPictures } from "./terms.js";

const AHEAD = "400px"; // from the end of the results where more are asked for

class Page {
  map = null;
  #summed = "";

  constructor(about) {
    this.about = about;
    this.store = new Store();
    const acts = this.#acts();
    this.grid = new Grid(byId("grid"), this.store, acts);
    this.detail = new Detail(byId("detail"), this.store, about.limits, acts);
    this.fields = startFilters(about, this.store);
    this.search = new Search(this.store, { keep: keepPicture, wait: (...how) => this.#wait(...how),
      show: (answer, isMore) => this.#show(answer, isMore), fail: (sentence) => (say(sentence), status(this.#summed)) });
    const look = ([seen]) => seen.isIntersecting && this.search.more();
    this.end = new IntersectionObserver(look, { rootMargin: AHEAD, scrollMargin: AHEAD });
    byId("more").addEventListener("click", () => this.search.more());
    startBox(this.store, about.limits, say);
    startPictures(about.limits, (file) => hasRoom(this.store.now, about.limits, say) && this.search.byPicture(file), say);
    this.store.listen((now, before) => this.#changed(now, before));
    this.#changed(this.store.now, null);
  }

  /** Show where the results are, if the archive knows. */
  async openMap() {
    if (!this.about.bounds) return;
    this.map = await openPlace(this.about, {
      point: (key) => (this.map.point(key), this.grid.point(key)),
      choose: (key) => this.grid.point(key, { isFocus: true }),
    }, this.store);
    this.map?.show(this.search.items, shades(this.search.items), this.store.now.box, false);
    this.map?.mark(this.store.now.pick);
  }

  /** What can be done with a result, by its key. */
  #acts() {
    const { store, about } = this;
    const known = (key) => this.search.items.find((item) => item.key === key);
    const like = (name, other) => (key) => {
      if (!store.now[other].includes(key) && !hasRoom(store.now, about.limits, say)) return;
      store.set({ [name]: [...new Set([...store.now[name], key])], [other]: store.now[other].filter((one) => one !== key), item: "" });
    };
    const pick = (key) => {
      if (store.now.pick.includes(key) || store.now.pick.length < about.limits.k) return store.toggle("pick", key, { replace: true });
      say(`At most ${about.limits.k} rows are exported at once: take one out first.`);
      return this.grid.mark(store.now.pick);
    };
    return {
      known, pick, more: like("like", "unlike"), less: like("unlike", "like"), open: (key) => store.set({ item: key }),
      hover: (key, isFocus) => this.map?.point(key, isFocus ? known(key)?.centre : null),
      end: () => this.search.more(), beside: (key, step) => this.grid.beside(key, step),
      closed: (key) => this.grid.point(key, { isFocus: true }),
    };
  }

  #show(answer, isMore) {
    const { items, next } = this.search;
    const colours = shades(items);
    this.grid.show(answer.results, colours, isMore);
    this.map?.show(items, colours, this.store.now.box, isMore);
    byId("more").hidden = next === null;
    this.end.disconnect(); // and looks anew, since the end may still be in sight
    this.end.observe(byId("more"));
    this.#summed = summary(answer, items.length, isSearch(this.store.now));
    status(this.#summed);
    byId("status").classList.toggle("nothing", answer.nothing_matches);
    if (!isMore || answer.message) say(answer.nothing_matches && items.length ? null : answer.message);
    this.#offerExport();
  }

  #changed(now, before) {
    if (!before || String(queryOf(now)) !== String(queryOf(before))) {
      showTerms(now, this.store, before);
      showFilters(now, this.fields);
      this.search.run();
    }
    if (now.item !== (before?.item ?? "")) this.detail.show(now.item);
    if (before && String(now.pick) !== String(before.pick)) {
      this.grid.mark(now.pick);
      this.map?.mark(now.pick);
      this.#offerExport();
    }
    document.title = [now.text.join(" + "), this.about.title].filter(Boolean).join(" · ");
  }

  #offerExport() {
    showExport(this.store, this.search.items.length, this.about.limits.k, say);
  }

  #wait(isBusy, isMore) {
    if (isBusy && !isMore) status("Searching…");
    byId("found").setAttribute("aria-busy", isBusy);
  }
}

/** Say something that the reader has to know, until the next answer; nothing for null. */
function say(sentence) {
  byId("message").textContent = sentence ?? "";
  byId("message").hidden = !sentence;
}

function status(words) {
  byId("status").textContent = words;
}

function pressed(event) {
  if (isChord(event) || byId("detail").open) return;
  if (event.key === "/" && !isTyping(event.target)) {
    event.preventDefault();
    byId("box").select();
  } else if (event.key === "Escape") byId("keys").open = false;
  else if (event.key === "ArrowDown" && event.target === byId("box")) byId("grid").querySelector("[tabindex='0']")?.focus();
}

async function start() {
  try {
    const about = await api.archive();
    byId("title").textContent = about.title;
    byId("about").textContent = `${counted(about.rows)} rows · ${about.model}`;
    addEventListener("keydown", pressed);
    page = new Page(about);
    await page.openMap();
  } catch (error) {
    say(error.message);
  }
}

let page = null;
/** The map, once it is there. */
export const mapShown = () => page?.map;
start();
