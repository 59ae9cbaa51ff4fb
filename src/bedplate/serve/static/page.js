// Keeps a page fresh and reachable by keys. Without it every page still works: it is only older when you look.
"use strict";

(() => {
  const lamp = document.querySelector("[data-lamp]");
  let waiting = false;
  let again = false;

  function show(state, words) {
    if (lamp && lamp.dataset.state !== state) {
      lamp.dataset.state = state;
      lamp.textContent = words;
    }
  }

  function busy(part) {
    // What somebody types in, has opened or has marked is not pulled away.
    const active = document.activeElement;
    if (active && active !== document.body && part.contains(active) && active.matches("input, select, button, summary")) {
      return true;
    }
    if (part.querySelector("details[open]")) return true;
    const marked = window.getSelection();
    return Boolean(marked && !marked.isCollapsed && part.contains(marked.anchorNode));
  }

  async function refresh() {
    if (waiting) {
      again = true;
      return;
    }
    waiting = true;
    try {
      const answer = await fetch(location.href, { headers: { "x-live": "1" }, redirect: "manual" });
      if (answer.type === "opaqueredirect") {
        location.reload();
        return;
      }
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
        if (!next || busy(part) || next.outerHTML === part.outerHTML) continue;
        const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        part.replaceWith(document.adoptNode(next));
        if (focused) next.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
      }
      if (document.title !== fresh.title) document.title = fresh.title;
    } catch {
      show("off", "reconnecting");
    } finally {
      waiting = false;
      if (again) {
        again = false;
        setTimeout(refresh, 1000);
      }
    }
  }

  if (lamp) {
    const news = new EventSource("/live");
    news.onopen = () => {
      show("on", "live");
      refresh();
    };
    news.onmessage = refresh;
    news.onerror = () => show("off", "reconnecting");
    // Times such as "3 min ago" grow old even when nothing happens.
    setInterval(refresh, 30000);
  }

  // Only one menu is open at a time; Escape closes it and gives the focus back.
  document.addEventListener("toggle", (event) => {
    const menu = event.target;
    if (!(menu instanceof HTMLDetailsElement) || !menu.open || !menu.classList.contains("act")) return;
    for (const other of document.querySelectorAll("details.act[open]")) if (other !== menu) other.open = false;
    menu.querySelector("input:not([type=hidden]), select, button")?.focus();
  }, true);

  const places = { o: "/", r: "/rollouts", n: "/nodes", s: "/releases", l: "/log" };
  let afterG = 0;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const menu = document.querySelector("details.act[open]");
      if (menu) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      const field = document.querySelector("[data-search]");
      if (field) field.focus();
      else location.assign("/nodes#search");
    } else if (event.key === "g") {
      afterG = Date.now();
    } else if (Date.now() - afterG < 1200 && places[event.key]) {
      location.assign(places[event.key]);
    }
  });
  if (location.hash === "#search") document.querySelector("[data-search]")?.focus();
})();
