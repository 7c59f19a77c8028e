/** Answers page by page; of several questions the last one counts. */

import * as api from "./api.js";
import { queryOf } from "./state.js";

const NONE = { results: [], total: 0, next: null, best_z: null, nothing_matches: false };

export class Search {
  /**
   * `acts`: `wait` (whether an answer is waited for, and whether it goes on from what is shown), `show` (the answer, whether
   * it goes on), `fail` (a sentence, where what is shown stays), `keep` (what stands for a picture, its file).
   */
  constructor(store, acts) {
    Object.assign(this, { store, acts, items: [], next: null, turn: new AbortController(), isBusy: false, ready: null });
  }

  /** Ask what the state asks. */
  run() {
    const query = String(queryOf(this.store.now));
    const { ready } = this;
    this.ready = null;
    const none = ({ message }) => this.#take({ ...NONE, message }, false); // the last query's results are not this one's
    return this.#ask(async (signal) => (ready?.query === query ? ready.answer : api.search(query, 0, signal)), false, none);
  }

  /** The next page, if there is one and nothing is on its way. */
  more() {
    if (this.next === null || this.isBusy) return undefined;
    const { next } = this;
    return this.#ask((signal) => api.search(queryOf(this.store.now), next, signal), true);
  }

  /** Ask with one more picture, which from then on is part of the state. */
  byPicture(file) {
    const query = queryOf(this.store.now);
    return this.#ask(async (signal) => {
      const answer = await api.searchByPicture(query, file, signal);
      signal.throwIfAborted();
      this.acts.keep(answer.picture, file);
      const picture = [...new Set([...this.store.now.picture, answer.picture])];
      if (picture.length === this.store.now.picture.length) return answer;
      this.ready = { query: String(queryOf({ ...this.store.now, picture })), answer };
      this.store.set({ picture }); // and so `run`
      return null;
    }, false);
  }

  #take(answer, isMore) {
    this.items = isMore ? [...this.items, ...answer.results] : answer.results;
    this.next = answer.next;
    this.isBusy = false;
    this.acts.wait(false, isMore);
    this.acts.show(answer, isMore);
  }

  async #ask(question, isMore, fail = ({ message }) => this.acts.fail(message)) {
    this.turn.abort();
    this.turn = new AbortController();
    const { signal } = this.turn;
    this.isBusy = true;
    this.acts.wait(true, isMore);
    try {
      const answer = await question(signal);
      if (!signal.aborted) this.#take(answer, isMore);
    } catch (error) {
      if (signal.aborted) return;
      this.isBusy = false;
      this.acts.wait(false, isMore);
      fail(error);
    }
  }
}
