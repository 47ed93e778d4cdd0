// The live log of a worker's process: server-sent events into rows, many at a time.

const SHOWN = 5000; // rows kept on the page
const BACKLOG = 500; // lines that come first
const AGAIN_MS = 3000;
const FLUSH_MS = 120; // a flood is laid out so often, not with every event
const LEVELS = ["debug", "info", "warning", "error"];
const MESSAGE = ["event", "message", "msg"];
const HEAD = new Set(["time", "timestamp", "level", "levelname", ...MESSAGE]);

for (const element of document.querySelectorAll("[data-log-viewer]")) view(element);

function view(root) {
  const find = (name) => root.querySelector(`[data-${name}]`);
  const says = (name, n = "") =>
    root.dataset[`says${name[0].toUpperCase()}${name.slice(1)}`].replace("%n", n.toLocaleString());
  const lines = find("lines");
  const state = { stream: root.dataset.stream, paused: false, follows: true, wraps: true };
  let source = null; // the EventSource
  let last = ""; // id of the last line: where to go on
  let again = 0; // timer of the next attempt
  let waiting = []; // lines that came and are not on the page yet
  let skipped = 0;
  let frame = 0; // timer of the next flush
  let isLive = false;
  let needle = "";
  let hit = null;

  // --- the stream ----------------------------------------------------------------------------

  function connect() {
    disconnect();
    isLive = false;
    source = new EventSource(address());
    source.onopen = () => trouble("");
    source.onmessage = (event) => take(event.lastEventId, JSON.parse(event.data));
    source.addEventListener("missed", (event) => take(event.lastEventId, { note: says("missed") }));
    source.addEventListener("live", () => { isLive = true; later(); });
    source.onerror = lost;
    status();
  }

  function address() {
    const query = new URLSearchParams({ stream: state.stream, tail: BACKLOG });
    if (last) query.set("after", last);
    return `${root.dataset.followUrl}?${query}`;
  }

  function disconnect() {
    source?.close();
    source = null;
    window.clearTimeout(again);
  }

  // A connection that broke comes back by itself; one that was refused does not, and has a reason.
  async function lost() {
    isLive = false;
    const refused = source?.readyState === EventSource.CLOSED;
    if (refused) disconnect();
    status();
    if (!refused) return;
    again = window.setTimeout(connect, AGAIN_MS);
    const why = await reason();
    if (source?.readyState !== EventSource.OPEN) trouble(why);
  }

  // An EventSource does not tell; whoever asks the same once more is told.
  async function reason() {
    const stop = new AbortController();
    try {
      const answer = await fetch(address(), { signal: stop.signal });
      if ([401, 403].includes(answer.status)) window.location.reload(); // to the login, or the words
      return answer.ok ? "" : (await answer.json()).errors[0].detail;
    } catch {
      return "";
    } finally {
      stop.abort(); // a stream that is given after all has no end
    }
  }

  function switchTo(stream) {
    state.stream = stream;
    last = "";
    waiting = [];
    skipped = 0;
    lines.replaceChildren();
    for (const button of root.querySelectorAll("[data-to-stream]"))
      button.setAttribute("aria-pressed", button.dataset.toStream === stream);
    for (const link of root.querySelectorAll("[data-with-stream]"))
      link.href = link.href.replace(/stream=\w+/, `stream=${stream}`);
    connect();
    showEmpty();
  }

  // --- rows ----------------------------------------------------------------------------------

  function take(id, line) {
    last = id || last;
    waiting.push(line);
    if (waiting.length > SHOWN * 1.2) {
      const dropped = waiting.splice(0, waiting.length - SHOWN);
      if (!state.paused) skipped += dropped.length;
    }
    later();
  }

  function later() {
    frame ||= window.setTimeout(() => { frame = 0; flush(); }, FLUSH_MS);
  }

  function flush() {
    if (!state.paused && waiting.length) {
      const fresh = document.createDocumentFragment();
      if (skipped) fresh.append(row({ note: says("skipped", skipped) }));
      fresh.append(...waiting.map(row));
      waiting = [];
      skipped = 0;
      lines.append(fresh);
      const tooMany = lines.childElementCount - SHOWN;
      if (tooMany > 0) {
        const range = document.createRange();
        range.setStart(lines, 0);
        range.setEnd(lines, tooMany);
        range.deleteContents();
      }
      if (needle) count();
      showEmpty(); // first: what is hidden can't be scrolled
      if (state.follows) lines.scrollTop = lines.scrollHeight;
    }
    showEmpty();
    status();
  }

  function row(line) {
    const element = document.createElement("div");
    if (line.note) {
      element.className = "m-line m-note";
      element.textContent = line.note;
      return element;
    }
    element.className = `m-line m-is-${line.level}`;
    element.raw = line.line;
    const record = parsed(line.line);
    if (record) {
      element.append(part("time", clock(line.time), line.time), part("span", line.level, ""));
      element.lastChild.className = "m-log-level";
    }
    const text = part("span", record ? messageOf(record) : line.line, "");
    text.className = "m-log-text";
    element.append(text);
    const rest = record && Object.entries(record).filter(([name]) => !HEAD.has(name));
    if (rest?.length) element.append(details(rest));
    mark(element);
    return element;
  }

  function part(kind, text, title) {
    const element = document.createElement(kind);
    element.textContent = text;
    if (title) element.title = title;
    return element;
  }

  function details(rest) {
    const button = part("button", "⋯", says("details"));
    button.type = "button";
    button.className = "m-log-more";
    button.setAttribute("aria-label", says("details"));
    button.setAttribute("aria-expanded", "false");
    button.rest = rest;
    return button;
  }

  function toggleDetails(button) {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", !open);
    if (open) return button.nextElementSibling.remove();
    const list = document.createElement("dl");
    for (const [name, value] of button.rest) {
      const shown = typeof value === "string" ? value : JSON.stringify(value, null, 2);
      list.append(part("dt", name, ""), part("dd", shown, ""));
    }
    button.after(list);
    list.scrollIntoView({ block: "nearest" });
    state.follows = false;
    status();
  }

  function parsed(text) {
    if (!text.startsWith("{")) return null;
    try {
      const record = JSON.parse(text);
      return MESSAGE.some((name) => name in record) ? record : null;
    } catch {
      return null;
    }
  }

  const messageOf = (record) => String(record[MESSAGE.find((name) => name in record)]);

  function clock(time) {
    if (!time) return "";
    const moment = new Date(time);
    const digits = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
    return `${moment.toLocaleTimeString(undefined, digits)}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
  }

  // --- search --------------------------------------------------------------------------------

  function mark(element) {
    const text = element.querySelector(".m-log-text");
    if (!text) return;
    const whole = text.textContent;
    const places = [];
    const low = whole.toLowerCase();
    for (let at = needle ? low.indexOf(needle) : -1; at >= 0; at = low.indexOf(needle, at + needle.length))
      places.push(at);
    element.classList.toggle("m-hit", places.length > 0 || (needle && element.raw.toLowerCase().includes(needle)));
    if (!places.length && !text.firstElementChild) return;
    let from = 0;
    const nodes = places.flatMap((at) => {
      const before = whole.slice(from, at);
      from = at + needle.length;
      return [before, part("mark", whole.slice(at, from), "")];
    });
    text.replaceChildren(...nodes, whole.slice(from));
  }

  function search(text) {
    needle = text.trim().toLowerCase();
    hit = null;
    for (const element of lines.children) if (element.raw !== undefined) mark(element);
    count();
    if (needle) jump(-1);
  }

  const hits = () => [...lines.querySelectorAll(".m-hit")].filter((row) => row.offsetParent);

  function count() {
    find("hits").textContent = needle ? hits().length.toLocaleString() : "";
  }

  function jump(step) {
    const found = hits();
    if (!found.length) return;
    const at = found.indexOf(hit);
    hit?.classList.remove("m-here");
    hit = at < 0 ? found.at(step < 0 ? -1 : 0) : found[(at + step + found.length) % found.length];
    hit.classList.add("m-here");
    state.follows = false;
    hit.scrollIntoView({ block: "center" });
    status();
  }

  // --- what is shown -------------------------------------------------------------------------

  function trouble(text) {
    root.querySelector("[data-empty=trouble]").textContent = text;
    showEmpty();
  }

  function showEmpty() {
    const reason = root.querySelector("[data-empty=trouble]").textContent;
    const rows = lines.childElementCount;
    const filtered = rows && find("level").value && ![...lines.children].some((row) => row.offsetParent);
    const shown = reason ? "trouble" : !rows && isLive ? "nothing" : filtered ? "filtered" : "";
    for (const element of root.querySelectorAll("[data-empty]"))
      element.hidden = element.dataset.empty !== shown;
    root.classList.toggle("m-is-empty", !rows || Boolean(filtered));
  }

  function status() {
    const badge = find("status");
    const [word, tone] = state.paused
      ? [`${says("paused")}${waiting.length ? ` · ${says("waiting", waiting.length)}` : ""}`, "amber"]
      : isLive ? [says("live"), "green"]
      : source ? [says("connecting"), "grey"]
      : [says("away"), "red"];
    if (badge.textContent !== word) badge.textContent = word;
    badge.className = `m-badge m-${tone}`;
    for (const button of root.querySelectorAll("[data-toggle]"))
      button.setAttribute("aria-pressed", state[button.dataset.toggle]);
    lines.classList.toggle("m-wraps", state.wraps);
  }

  function toggle(name) {
    state[name] = !state[name];
    if (name === "follows" && state.follows) lines.scrollTop = lines.scrollHeight;
    if (name === "wraps") remember("wraps", state.wraps);
    flush();
  }

  function remember(name, value) {
    try { window.localStorage.setItem(`muster-log-${name}`, value); } catch { /* private mode */ }
  }

  function remembered(name) {
    try { return window.localStorage.getItem(`muster-log-${name}`); } catch { return null; }
  }

  async function copy() {
    const shown = [...lines.children].filter((row) => row.raw !== undefined && row.offsetParent);
    const text = shown.map((row) => `${row.raw}\n`).join("");
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyBySelection(text); // not offered over plain http
    const detail = { level: "success", text: says("copied", shown.length) };
    document.dispatchEvent(new CustomEvent("toast", { detail }));
  }

  function copyBySelection(text) {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }

  // --- hands ---------------------------------------------------------------------------------

  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.toStream) switchTo(button.dataset.toStream);
    else if (button.dataset.toggle) toggle(button.dataset.toggle);
    else if ("copy" in button.dataset) copy();
    else if (button.rest) toggleDetails(button);
  });

  find("level").addEventListener("change", (event) => {
    const least = LEVELS.indexOf(event.target.value);
    LEVELS.forEach((name, i) => lines.classList.toggle(`m-without-${name}`, i < least));
    count();
    showEmpty();
    if (state.follows) lines.scrollTop = lines.scrollHeight;
  });

  let typing = 0;
  find("search").addEventListener("input", (event) => {
    window.clearTimeout(typing);
    typing = window.setTimeout(() => search(event.target.value), 150);
  });
  find("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") jump(event.shiftKey ? 1 : -1);
    if (event.key === "Escape") lines.focus();
  });

  lines.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== lines) return;
    const named = { p: "paused", f: "follows", w: "wraps" }[event.key];
    if (named) toggle(named);
    if (event.key === "/") {
      event.preventDefault();
      find("search").focus();
    }
  });

  // Who scrolls up wants to read; who comes back to the end wants to go on.
  lines.addEventListener("scroll", () => {
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 24;
    if (atEnd === state.follows) return;
    state.follows = atEnd;
    status();
  });

  // A browser has six connections to a server: tabs that nobody looks at give theirs back.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) connect();
    else disconnect();
  });

  state.wraps = remembered("wraps") !== "false";
  connect();
}
