// Worklist: files that are added, one state each, and keys. Nothing of it is fetched from anywhere else.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const AT_ONCE = 2, TRIES = 30;
  const waiting = [];
  let sending = 0, scored = 0;

  function said(file) {
    const item = document.createElement("li"), name = document.createElement("b"), state = document.createElement("span");
    name.textContent = file.name;
    state.textContent = " waiting";
    item.append(name, state);
    $("sent").prepend(item);
    return (text, kind, page) => {
      state.textContent = ` ${text}`;
      state.className = kind || "";
      if (!page) return;
      const link = document.createElement("a");
      link.href = page;
      link.append(...item.childNodes);
      item.append(link);
    };
  }

  async function send({ file, say }) {
    const form = new FormData();
    form.append("source", $("source").value || "uploaded");
    form.append("files", file);
    say("being scored");
    for (let left = TRIES; left; left--) {
      const answer = await fetch("/api/score", { method: "POST", body: form }).catch(() => null);
      if (answer === null) { say("not sent: the service does not answer", "warned"); return; }
      if (answer.status === 429) { await new Promise((go) => setTimeout(go, 1000)); continue; }
      if (answer.status === 401) { location.reload(); return; }
      const found = await answer.json().catch(() => ({ detail: `status ${answer.status}` }));
      const rows = found.results || [], good = rows.filter((row) => !row.error), bad = rows.find((row) => row.error);
      if (!good.length) { say(`refused: ${bad ? bad.error : found.detail}`, "warned"); return; }
      const worst = good.reduce((one, other) => (other.p_value < one.p_value ? other : one));
      const before = good.every((row) => row.sent_before) ? "here already: " : "";
      say(`${before}${good.length > 1 ? `${good.length} images, the smallest ` : ""}p ${worst.p_value.toPrecision(2)}, called ${worst.verdict}`, worst.verdict, worst.page);
      scored++;
      const sources = document.querySelector("[name=source]"), name = form.get("source");
      if (![...sources.options].some((one) => one.value === name)) sources.append(new Option(name, name));
      return;
    }
    say("not sent: the service is busy", "warned");
  }

  async function work() {
    if (sending >= AT_ONCE || !waiting.length) return;
    sending++;
    await send(waiting.shift());
    sending--;
    if (waiting.length) work();
    else if (!sending && scored) { scored = 0; refresh(); }
  }

  function refresh() {
    htmx.ajax("GET", location.pathname + location.search, { source: "#filters", target: "#list", select: "#list", swap: "outerHTML" });
  }

  function add(files) {
    for (const file of files) waiting.push({ file, say: said(file) });
    for (let i = 0; i < AT_ONCE; i++) work();
  }

  $("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    add(event.dataTransfer.files);
  });

  function step(by) {
    const links = [...document.querySelectorAll("a.open")];
    const at = links.indexOf(document.activeElement);
    const to = links[Math.max(0, Math.min(links.length - 1, at === -1 ? 0 : at + by))];
    if (to) to.focus();
  }

  // Back from a study: the row that was opened has the focus again, and the rows are what they are now.
  const OPENED = "aeflow-opened";
  document.addEventListener("click", (event) => {
    const opened = event.target.closest("a.open");
    try { if (opened) sessionStorage.setItem(OPENED, opened.pathname); } catch { /* a private window keeps nothing */ }
  });
  try {
    const opened = sessionStorage.getItem(OPENED), row = opened && [...document.querySelectorAll("a.open")].find((one) => one.pathname === opened);
    if (row) row.focus();
  } catch { /* likewise */ }
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
    if (event.target.matches("input, select, textarea")) return;
    const keys = { j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1), "?": () => $("help").showModal() };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  document.querySelectorAll("[data-opens]").forEach((button) => button.addEventListener("click", () => $(button.dataset.opens).showModal()));
})();
