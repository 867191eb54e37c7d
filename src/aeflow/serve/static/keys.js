// Keys of the lists: from one study to the next, and what keys there are.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const links = () => [...document.querySelectorAll("a.open")];

  function step(by) {
    const found = links(), at = found.indexOf(document.activeElement);
    const to = found[Math.max(0, Math.min(found.length - 1, at === -1 ? 0 : at + by))];
    if (to) to.focus();
  }

  // Back from a study: the one that was seen last has the focus, and the rows are what they are now.
  const seen = () => { try { return sessionStorage.getItem("aeflow-seen"); } catch { return null; /* a private window keeps nothing */ } };
  const [arrival] = performance.getEntriesByType("navigation");
  const wanted = location.hash ? `/studies/${location.hash.slice(1)}` : arrival.type === "back_forward" && seen();
  const row = wanted && links().find((one) => one.pathname === wanted);
  if (row) row.focus();
  if (location.hash) history.replaceState(history.state, "", location.pathname + location.search); // it was for once
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  const KEYS = { j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1), "?": () => $("help").showModal() };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
    if (event.target.matches("input, select, textarea")) return;
    const key = event.getModifierState("CapsLock") && event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!(key in KEYS)) return;
    event.preventDefault();
    KEYS[key]();
  });
  document.querySelectorAll("[data-opens]").forEach((button) => button.addEventListener("click", () => $(button.dataset.opens).showModal()));
})();
