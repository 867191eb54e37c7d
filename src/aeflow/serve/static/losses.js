// What would be lost: said before it is, and done when the same key, button or link is pressed a second time.
import { $, fresh, images, mine, present, say, state } from "./study.js";

let warned = ""; // what was warned of

const regions = (number) => (number ? [number > 1 ? `${number} regions` : "the region"] : []);
const kind = (name) => (name ? [`the kind "${name}"`] : []);
const typed = () => ($("kind").value.trim() !== $("kind").dataset.filled ? $("kind").value.trim() : "");

// Of everything on this page, what the service does not have.
export const unkept = () => [...regions(images.reduce((sum, one) => sum + fresh(one).length, 0)), ...kind(typed())];

// Of this image, what a label other than abnormal takes away.
export function replaced() {
  const given = mine(), abnormal = given && given.label === "abnormal";
  return [...regions(abnormal ? present().regions.length : fresh().length), ...kind(typed() || (abnormal && given.kind))];
}

export function stops(key, lost, instead = "") {
  const one = `${key} ${state.at}`, again = warned === one;
  warned = "";
  if (!lost.length || again) return false;
  warn(key, `This loses ${lost.join(" and ")}: press again to go on${instead}`);
  return true;
}

export function warn(key, text) {
  warned = `${key} ${state.at}`;
  say(text, true);
}

// A key other than the one that was warned of has its own way.
export function forgets(act) {
  const before = warned;
  act();
  if (warned === before) warned = "";
}
