// Keeps open pages in step with the feed: unread figures, the inbox's rows, a conversation's messages.
//
// One stream for each page that can be seen; a hidden one lets go of its own and goes on from the
// last event when it is seen again, so that many tabs don't use up the browser's connections.
// Other parts listen on the body: `feed-reply`, `feed-account`, … with `detail.ids`.
(() => {
  "use strict";

  const OFFLINE_AFTER_MS = 1500; // a reconnect that succeeds at once is not worth a word
  const RETRY_MS = [1000, 15000];
  const SILENT_MS = 40000; // the server says something every 15 s
  const RELIST_MS = 2000;
  const MOST_MESSAGES = 200;
  const MOST_MARKED = 3; // rows at once that are shown to be new; more is only flicker

  let place; // the figure in the sidebar, which knows address and position
  let last; // the position of the last event
  let source = null;
  let retryIn = RETRY_MS[0];
  let retry = 0;

  // --- the stream ------------------------------------------------------------------------------

  function connect() {
    window.clearTimeout(retry);
    if (source || document.hidden) return;
    source = new EventSource(`${place.dataset.feed}?since=${last}`);
    for (const name of ["open", "changes", "live", "reset", "away", "beat"])
      source.addEventListener(name, heard);
    heard();
    source.addEventListener("changes", (event) => {
      last = event.lastEventId;
      take(JSON.parse(event.data));
    });
    source.addEventListener("live", (event) => {
      last = event.lastEventId;
      retryIn = RETRY_MS[0];
      say("");
    });
    source.addEventListener("reset", (event) => {
      last = event.lastEventId;
      htmx.trigger(document.body, "refresh");
    });
    source.addEventListener("away", () => say("away"));
    source.addEventListener("denied", () => window.location.reload());
    source.addEventListener("error", lost);
  }

  // A network that vanished tells nobody: whoever hears nothing for long begins anew.
  let silence = 0;
  function heard() {
    window.clearTimeout(silence);
    silence = window.setTimeout(() => {
      say("offline");
      disconnect();
      connect();
    }, SILENT_MS);
  }

  function disconnect() {
    window.clearTimeout(retry);
    window.clearTimeout(silence);
    source?.close();
    source = null;
  }

  // The browser tries again by itself after a broken connection, but not after an answer other
  // than 200: a web process that starts, a database that is away, a login that has ended.
  async function lost() {
    say("offline", OFFLINE_AFTER_MS);
    if (source?.readyState !== EventSource.CLOSED) return;
    disconnect();
    retry = window.setTimeout(connect, retryIn * (0.5 + Math.random() / 2));
    retryIn = Math.min(retryIn * 2, RETRY_MS[1]);
    const answer = await fetch(place.dataset.login).catch(() => null);
    if (answer && [401, 403].includes(answer.status)) window.location.reload();
  }

  let saying = 0;
  function say(state, afterMs = 0) {
    window.clearTimeout(saying);
    if (state === document.body.dataset.feed) return;
    saying = window.setTimeout(() => {
      document.body.dataset.feed = state || "live";
      pill().hidden = !state;
      pill().textContent = state ? place.dataset[state === "away" ? "saysAway" : "saysOffline"] : "";
    }, afterMs);
  }

  function pill() {
    let found = document.getElementById("m-live");
    if (!found) {
      found = document.createElement("div");
      found.id = "m-live";
      found.hidden = true;
      found.setAttribute("role", "status");
      document.body.append(found);
    }
    return found;
  }

  // --- events ------------------------------------------------------------------------------------

  // Gathered until the browser paints: of many changes of a row only the last is drawn, so that a
  // slow machine falls behind in frames and never in news.
  let gathered = null;

  function take(news) {
    gathered ??= begin();
    gathered.unread = mergeUnread(gathered.unread, news.unread);
    gathered.whole &&= news.whole;
    for (const row of news.rows) {
      gathered.rows.delete(row.id);
      gathered.rows.set(row.id, row);
    }
    gathered.messages.push(news);
    for (const [kind, operations] of Object.entries(news.changes)) {
      const { ids } = (gathered.kinds[kind] ??= { ids: [] });
      ids.push(...Object.values(operations).flat());
    }
  }

  function begin() {
    window.requestAnimationFrame(draw);
    return { unread: null, whole: true, rows: new Map(), messages: [], kinds: {} };
  }

  function mergeUnread(before, now) {
    if (!now) return before;
    return { ...now, accounts: { ...before?.accounts, ...now.accounts } };
  }

  function draw() {
    const news = gathered;
    gathered = null;
    if (news.unread) showUnread(news.unread);
    const list = document.querySelector("#live-rows[data-inbox]");
    if (list) {
      if (!news.whole) relist(list);
      const marked = news.rows.size <= MOST_MARKED;
      for (const row of news.rows.values()) showRow(list, row, marked);
    }
    for (const one of news.messages) showMessages(one);
    for (const [kind, detail] of Object.entries(news.kinds))
      htmx.trigger(document.body, `feed-${kind}`, detail);
  }

  function showUnread({ total, platforms, accounts }) {
    figure("[data-unread-total]", total);
    for (const [name, n] of Object.entries(platforms))
      figure(`[data-unread-platform="${CSS.escape(name)}"]`, n);
    for (const [pk, n] of Object.entries(accounts)) figure(`[data-unread-account="${pk}"]`, n);
    const bar = document.getElementById("unread-bar");
    const knows = (kind, key) => bar.querySelector(`[data-unread-${kind}="${CSS.escape(key)}"]`);
    const lacks =
      bar &&
      (Object.keys(platforms).some((name) => !knows("platform", name)) ||
        Object.entries(accounts).some(([pk, n]) => n && !knows("account", pk)));
    if (lacks) relist(bar);
  }

  function figure(selector, n) {
    const text = n ? n.toLocaleString(muster.language()) : "";
    for (const element of document.querySelectorAll(selector))
      if (element.textContent !== text) element.textContent = text;
  }

  // Where only the server knows: its own list once more, not more often than every two seconds.
  const relisting = new WeakMap();
  function relist(element) {
    if (relisting.has(element)) return;
    relisting.set(element, true);
    window.setTimeout(
      () => {
        relisting.delete(element);
        htmx.trigger(element, "relist");
      },
      RELIST_MS * (0.25 + Math.random() / 2),
    );
  }

  // --- the inbox's rows ----------------------------------------------------------------------------

  const timeOf = (tbody) => tbody.querySelector(".field-when time")?.getAttribute("datetime") ?? "";
  const rowOf = (tbody) => Number(tbody.querySelector("[data-conversation]")?.dataset.conversation);

  function showRow(list, row, marked) {
    const table = list.querySelector("#result_list");
    const plain = list.dataset.plain === "true";
    let tbody = list.querySelector(`[data-conversation="${row.id}"]`)?.closest("tbody");
    if (!plain) relist(list);
    if (!tbody) {
      if (!plain) return;
      if (!table) return relist(list);
      tbody = emptyRow(table, row);
    }
    const newer = Date.parse(row.at) > Date.parse(timeOf(tbody));
    fill(tbody, row);
    if (plain) putInPlace(table, tbody, row, Number(list.dataset.perPage));
    if (newer && marked && tbody.isConnected) flash(tbody);
  }

  function emptyRow(table, row) {
    const tbody = table.tBodies[0].cloneNode(true);
    const link = tbody.querySelector(".field-who a");
    if (link) link.href = link.getAttribute("href").replace(/\/\d+\/change\//, `/${row.id}/change/`);
    const box = tbody.querySelector("input.action-select");
    if (box) Object.assign(box, { value: row.id, checked: false });
    tbody.querySelector(".field-when")?.replaceChildren();
    tbody.querySelector("tr.data-row").classList.remove("selected");
    return tbody;
  }

  function fill(tbody, row) {
    for (const [name, html] of Object.entries(row.cells)) {
      const cell = tbody.querySelector(`.field-${name}`);
      if (!cell) continue;
      const shelf = cell.querySelector(":scope > a") ?? cell;
      shelf.innerHTML = html;
      delete cell.dataset.shown; // console.js compares with what it put there itself
    }
    muster.localise(tbody);
  }

  // Newest first, the larger id first among equals, rows without a message last.
  function putInPlace(table, tbody, row, most) {
    const at = Date.parse(row.at) || 0;
    const after = [...table.tBodies].find((other) => {
      if (other === tbody) return false;
      const theirs = Date.parse(timeOf(other)) || 0;
      return theirs < at || (theirs === at && rowOf(other) < row.id);
    });
    if (after) {
      if (tbody.nextElementSibling !== after) table.insertBefore(tbody, after);
    } else if (!tbody.isConnected && table.tBodies.length < most) table.append(tbody);
    else if (tbody.isConnected && table.tBodies.length >= most) relist(table.closest("#live-rows"));
    else if (tbody.isConnected && table.lastElementChild !== tbody) table.append(tbody);
    while (table.tBodies.length > most) table.lastElementChild.remove();
  }

  function flash(element) {
    for (const animation of element.getAnimations()) animation.cancel();
    element.classList.remove("m-new");
    window.requestAnimationFrame(() => element.classList.add("m-new"));
  }

  // --- a conversation's messages -------------------------------------------------------------------

  const wanted = new Set(); // ids of messages that are to be fetched
  let fetching = false;

  function showMessages(news) {
    const chat = document.getElementById("live-chat");
    if (!chat?.dataset.conversation) return;
    const ours = Number(chat.dataset.conversation);
    const ids = Object.values(news.messages[ours] ?? {}).flat();
    const touched = news.changes.conversation ?? {};
    if (!news.whole && Object.values(touched).flat().includes(ours)) return askAnew(chat);
    if (touched.read?.includes(ours)) askAnew(chat);
    for (const id of ids) wanted.add(id);
    if (ids.length) fetchMessages(chat);
  }

  // The server's own page of it: all that is shown, from the first message on.
  const askAnew = (chat) => htmx.trigger(chat, "refresh");

  async function fetchMessages(chat) {
    if (fetching || !wanted.size) return;
    fetching = true;
    const ids = [...wanted].slice(0, MOST_MESSAGES);
    for (const id of ids) wanted.delete(id);
    try {
      const answer = await fetch(`${chat.dataset.messagesUrl}?ids=${ids.join(",")}`);
      if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
      patchMessages(chat, await answer.text());
    } catch {
      for (const id of ids) wanted.add(id);
      await new Promise((resolve) => window.setTimeout(resolve, RETRY_MS[0]));
    } finally {
      fetching = false;
    }
    fetchMessages(chat);
  }

  function patchMessages(chat, html) {
    const scroller = chat.closest("[data-tail]");
    const { scrollHeight, scrollTop, clientHeight } = scroller;
    const atEnd = scrollHeight - scrollTop - clientHeight < 40;
    const shelf = chat.querySelector(".m-bubbles");
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    muster.localise(fresh.content);
    for (const bubble of [...fresh.content.querySelectorAll("[data-message]")]) {
      const old = scroller.querySelector(`[data-message="${bubble.dataset.message}"]`);
      if (old) old.replaceWith(bubble);
      else insertMessage(scroller, shelf, bubble);
    }
    if (shelf.lastElementChild) {
      chat.querySelector(".m-empty")?.remove();
      chat.elements.up_to.value = shelf.lastElementChild.dataset.message;
    }
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  }

  function insertMessage(scroller, shelf, bubble) {
    const isAfter = (other) => {
      const [ours, theirs] = [Date.parse(bubble.dataset.at), Date.parse(other.dataset.at)];
      return ours > theirs || (ours === theirs && Number(bubble.dataset.message) > Number(other.dataset.message));
    };
    const before = [...shelf.children].reverse().find(isAfter);
    if (before) before.after(bubble);
    else if (!scroller.querySelector(".m-older")) shelf.prepend(bubble); // else with "older messages"
  }

  // --- begin ---------------------------------------------------------------------------------------

  document.addEventListener("DOMContentLoaded", () => {
    place = document.querySelector("[data-feed]");
    if (!place) return;
    last = place.dataset.since;
    connect();
    document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
    window.addEventListener("pagehide", disconnect);
    window.addEventListener("pageshow", (event) => event.persisted && connect());
    window.addEventListener("online", connect);
    window.addEventListener("offline", () => {
      say("offline");
      disconnect();
    });
  });
})();
