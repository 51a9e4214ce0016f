// A page that says so is shown anew every few seconds, unless somebody types, opens or selects.
// When it cannot be, it says since when, so that nobody takes it for the present.
"use strict";

(() => {
  const every = Number(document.body.dataset.refresh || 0) * 1000;
  if (!every) return;

  let shown = new Date();

  const busy = () => {
    const at = document.activeElement;
    const typing = at && at.matches("input, select, textarea, button, summary");
    const selected = String(window.getSelection());
    return document.hidden || typing || selected || document.querySelector("main details[open]");
  };

  const stale = (why) => {
    const main = document.querySelector("main");
    let note = document.getElementById("stale");
    if (!note) {
      note = document.createElement("p");
      note.id = "stale";
      note.className = "warning";
      note.setAttribute("role", "status");
      main.prepend(note);
    }
    const words = `This page is of ${shown.toLocaleTimeString()}: ${why}`;
    if (note.textContent !== words) note.textContent = words;
  };

  const refresh = async () => {
    if (busy()) return;
    const answer = await fetch(location.href, { headers: { "Gateway-Refresh": "1" } });
    if (busy()) return;
    if (answer.redirected) return stale("you are logged out. Reload it to log in.");
    if (!answer.ok) return stale("the gateway cannot show it now.");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main");
    const focus = document.activeElement && document.activeElement.id;
    if (fresh) document.querySelector("main").replaceWith(fresh);
    if (focus && document.getElementById(focus)) document.getElementById(focus).focus();
    shown = new Date();
  };

  const away = () => stale("the gateway does not answer.");
  const again = () => refresh().catch(away).finally(() => setTimeout(again, every));
  setTimeout(again, every);
})();
