// Requests the page again every few seconds and shows the path of the new request and the notes.
// The form is left alone. Nothing runs while the page is hidden.
"use strict";

const INTERVAL = 5000; // milliseconds

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch("/", { cache: "no-store", headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.querySelectorAll("[data-live]");
    const shown = document.querySelectorAll("[data-live]");
    if (fresh.length !== shown.length) return;
    shown.forEach((part, index) => part.replaceWith(fresh[index]));
    delete document.body.dataset.stale;
  } catch (error) {
    document.body.dataset.stale = "yes"; // the site does not respond; the style sheet says so
  }
}

if (document.querySelector("[data-live]")) setInterval(refresh, INTERVAL);
