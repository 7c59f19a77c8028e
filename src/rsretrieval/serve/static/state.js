/** What is looked at, kept in the page's address, so that it can be sent to someone, reloaded and gone back to. */

const TERMS = ["text", "picture", "like", "not", "unlike"]; // each several times
const FILTERS = ["scene", "from", "to", "box", "min_z"];
const VALUES = [...FILTERS, "item"];
const LISTS = [...TERMS, "pick"];

export const NO_TERMS = Object.fromEntries(TERMS.map((name) => [name, []]));
export const NO_FILTERS = Object.fromEntries(FILTERS.map((name) => [name, ""]));

/** The state that an address's parameters say. */
export function parsed(address) {
  const given = new URLSearchParams(address);
  const state = {};
  for (const name of LISTS) state[name] = [...new Set(given.getAll(name).filter(Boolean))];
  for (const name of VALUES) state[name] = given.get(name) ?? "";
  return state;
}

function written(state, lists, values) {
  const parameters = new URLSearchParams();
  for (const name of lists) for (const value of state[name]) parameters.append(name, value);
  for (const name of values) if (state[name]) parameters.append(name, state[name]);
  return parameters;
}

/** The address of a state. */
export const addressOf = (state) => `${location.pathname}?${written(state, LISTS, VALUES)}`.replace(/\?$/, "");

/** What of it goes to the server's search. */
export const queryOf = (state) => written(state, TERMS, FILTERS);

/** The same without filters: what a heat map is of. */
export const termsIn = (state) => written(state, TERMS, []);

/** How many things are looked for or against. */
export const termsOf = (state) => TERMS.reduce((sum, name) => sum + state[name].length, 0);

/** Whether there is something to look for; what it is not can only be taken from something. */
export const isSearch = (state) => Boolean(state.text.length || state.like.length || state.picture.length);

export const isFiltered = (state) => FILTERS.some((name) => state[name]);

/** The state, and who is told of a change as (now, before). */
export class Store {
  #listeners = [];

  constructor() {
    this.now = parsed(location.search);
    addEventListener("popstate", () => this.#change(parsed(location.search)));
  }

  listen(listener) {
    this.#listeners.push(listener);
  }

  /** Change some of it; `replace` leaves no step to go back to. */
  set(change, { replace = false } = {}) {
    const next = { ...this.now, ...change };
    if (addressOf(next) === addressOf(this.now)) return;
    history[replace ? "replaceState" : "pushState"](null, "", addressOf(next));
    this.#change(next);
  }

  /** Put a value into a list, or take it out if it is there. */
  toggle(name, value, options) {
    const there = this.now[name];
    this.set({ [name]: there.includes(value) ? there.filter((other) => other !== value) : [...there, value] }, options);
  }

  #change(next) {
    const before = this.now;
    this.now = next;
    for (const listener of this.#listeners) listener(next, before);
  }
}
