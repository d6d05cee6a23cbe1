// Shows one experiment at a time: the one that is picked, or named by the address.
"use strict";
(() => {
  const parts = [...document.querySelectorAll("section")];
  const controls = document.querySelector(".controls"), menu = controls.querySelector("select");

  function show() {
    const id = decodeURIComponent(location.hash.slice(1));
    const part = parts.find(candidate => candidate.id === id) ?? parts[0];
    for (const other of parts) other.hidden = other !== part;
    menu.value = part.id;
  }

  menu.addEventListener("change", () => { location.hash = menu.value; });
  window.addEventListener("hashchange", show);
  controls.hidden = false;
  show();
})();
