// Worklist: files that are added, one state each, and rows that come. Nothing of it is fetched from anywhere else.
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

  // Files that wait are this page's alone: whoever leaves it is asked first.
  addEventListener("beforeunload", (event) => { if (sending || waiting.length) event.preventDefault(); });

  $("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    add(event.dataTransfer.files);
  });

  // Once a rescoring is over, the list has its studies.
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.requestConfig.elt.id === "again" && !$("again").dataset.running) refresh();
  });
})();
