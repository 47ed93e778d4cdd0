// Small behaviour of Muster's admin pages: live rows, times, toasts, log tails. htmx does the rest.
(() => {
  "use strict";

  // --- times: written by the server with their offset, read in the reader's own time zone ---------

  const language = () => document.documentElement.lang || undefined;

  const formats = new Map(); // a format takes longer to make than to use a hundred times

  function written(time, options) {
    const key = JSON.stringify([language(), options]);
    if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(language(), options));
    return formats.get(key).format(time);
  }

  function shown(time) {
    const sameDay = time.toDateString() === new Date().toDateString();
    const clock = { hour: "2-digit", minute: "2-digit" };
    const date = { month: "short", day: "numeric", ...clock };
    if (time.getFullYear() !== new Date().getFullYear()) date.year = "numeric";
    return written(time, sameDay ? clock : date);
  }

  function localise(root) {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const time = new Date(element.getAttribute("datetime"));
      element.title = written(time, { dateStyle: "full", timeStyle: "long" });
      element.textContent = shown(time);
    }
  }

  // --- live rows: merge a fresh table into the shown one -------------------------------------------

  const keyOf = (row) =>
    row.querySelector("input.action-select")?.value ??
    row.querySelector("a")?.getAttribute("href").split("?")[0] ??
    row.textContent;

  function mergeCells(old, fresh) {
    const cells = fresh.querySelectorAll("tr.data-row > *");
    old.querySelectorAll("tr.data-row > *").forEach((cell, i) => {
      if (!cells[i] || cell.querySelector("input.action-select")) return;
      if (cell.dataset.shown === cells[i].innerHTML) return;
      const focused = cell.contains(document.activeElement) ? document.activeElement.id : "";
      cell.replaceChildren(...cells[i].cloneNode(true).childNodes);
      cell.dataset.shown = cells[i].innerHTML;
      htmx.process(cell);
      if (focused) document.getElementById(focused)?.focus();
    });
  }

  function mergeRows(table, fresh) {
    const shownRows = new Map([...table.tBodies].map((row) => [keyOf(row), row]));
    let place = null;
    for (const row of [...fresh.tBodies]) {
      const key = keyOf(row);
      const old = shownRows.get(key);
      shownRows.delete(key);
      if (old) {
        old.className = row.className;
        mergeCells(old, row);
      } else {
        row.classList.add("m-new");
      }
      const here = old ?? row;
      const wanted = place ? place.nextElementSibling : table.tBodies[0];
      if (wanted !== here) table.insertBefore(here, wanted ?? null);
      if (!old) htmx.process(here);
      place = here;
    }
    for (const gone of shownRows.values()) gone.remove();
  }

  htmx.defineExtension("rows", {
    isInlineSwap: (style) => style === "rows",
    handleSwap: (style, target, fragment) => {
      if (style !== "rows") return false;
      localise(fragment);
      const table = target.querySelector("#result_list");
      const fresh = fragment.querySelector("#result_list");
      if (table && fresh) mergeRows(table, fresh);
      else if (table || fresh) target.replaceChildren(...fragment.children);
      return [];
    },
  });

  // --- polls ---------------------------------------------------------------------------------------

  const tails = new WeakMap(); // what a polled element showed last, and whether it was at its end

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target, requestConfig } = event.detail;
    if (requestConfig.verb === "get" && new URL(xhr.responseURL).pathname.endsWith("/login/")) {
      event.detail.shouldSwap = false; // the session has ended
      window.location.reload();
      return;
    }
    const last = tails.get(target);
    if (last?.text === xhr.responseText) event.detail.shouldSwap = false; // keeps a selection alive
    const scroller = target.closest("[data-tail]");
    const atEnd =
      !scroller || scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
    tails.set(target, { text: xhr.responseText, atEnd });
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    const target = event.detail.target;
    localise(target);
    const scroller = target.closest("[data-tail]");
    if (scroller && tails.get(target)?.atEnd) scroller.scrollTop = scroller.scrollHeight;
  });

  // --- the filters by typing: select2 tells jQuery's listeners alone ---------------------------------

  document.addEventListener("DOMContentLoaded", () =>
    window.django?.jQuery?.(".m-by-typing select").on("change", (event) => event.target.form.submit()),
  );

  // --- toasts ----------------------------------------------------------------------------------------

  function toast({ level, text }) {
    let shelf = document.getElementById("m-toasts");
    if (!shelf) {
      shelf = document.createElement("div");
      shelf.id = "m-toasts";
      shelf.setAttribute("role", "status");
      shelf.setAttribute("aria-live", "polite");
      document.body.append(shelf);
    }
    const note = document.createElement("div");
    note.className = `m-toast m-toast-${level}`;
    note.textContent = text;
    shelf.append(note);
    window.setTimeout(() => note.remove(), level === "error" ? 10000 : 5000);
  }

  document.addEventListener("toast", (event) => toast(event.detail));

  window.muster = { language, localise }; // for live.js

  // --- what failed: a click says so, a page whose polls fail must not look up to date ----------------

  const behind = new Set(); // the elements whose last poll failed

  function mark(element, failed) {
    if (failed) behind.add(element);
    else behind.delete(element);
    for (const one of behind) if (!one.isConnected) behind.delete(one);
    document.body.classList.toggle("m-offline", behind.size > 0);
  }

  const isPoll = ({ verb, triggeringEvent }) =>
    verb === "get" && !["click", "submit"].includes(triggeringEvent?.type);

  // The pages for trouble have the words, in the reader's language.
  function wordsOf({ status, response }) {
    const page = new DOMParser().parseFromString(response, "text/html");
    const words = [...page.querySelectorAll("h1, h1 + p")].map((one) => one.textContent);
    return words.join(": ") || `${status}`;
  }

  document.addEventListener("htmx:sendError", ({ detail }) => {
    if (isPoll(detail.requestConfig)) return mark(detail.elt, true);
    const says = document.querySelector("[data-says-unanswered]")?.dataset.saysUnanswered;
    toast({ level: "error", text: says ?? "⟳" });
  });

  document.addEventListener("htmx:responseError", ({ detail: { elt, requestConfig, xhr } }) => {
    if (!isPoll(requestConfig)) return toast({ level: "error", text: wordsOf(xhr) });
    mark(elt, true);
    const isThisPage = new URL(xhr.responseURL).pathname === window.location.pathname;
    if (isThisPage && [401, 403, 404].includes(xhr.status)) window.location.reload();
  });

  document.addEventListener("htmx:afterOnLoad", ({ detail }) => {
    if (detail.successful) mark(detail.elt, false);
  });

  document.addEventListener("DOMContentLoaded", () => {
    localise(document);
    for (const scroller of document.querySelectorAll("[data-tail]"))
      scroller.scrollTop = scroller.scrollHeight;
  });
})();
