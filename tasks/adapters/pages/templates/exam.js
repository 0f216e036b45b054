"use strict";
// What is drawn on the pictures, by mouse or key. The settings travel to the next exam in the address after "#".
(() => {
  const tools = document.querySelector(".tools");
  const by = id => document.getElementById(id);
  const radios = [...document.querySelectorAll("input[name=finding]")];
  const finding = () => radios.find(radio => radio.checked).value;
  const choose = value => { for (const radio of radios) radio.checked = radio.value === value; };
  let last = "malignant";
  const show = (selector, isShown) => {
    for (const mark of document.querySelectorAll(selector)) mark.toggleAttribute("hidden", !isShown);
  };
  const apply = () => {
    const chosen = finding();
    if (chosen !== "none") last = chosen;
    for (const overlay of document.querySelectorAll("[data-overlay]")) {
      overlay.hidden = chosen !== "both" && chosen !== overlay.dataset.overlay;
      overlay.style.opacity = by("opacity").value / 100;
    }
    show("[data-marks=patches]", by("patches").checked);
    show("[data-marks=masks]", by("masks").checked);
    document.querySelector(".hanging").style.setProperty("--size", by("size").value);
    by("opacity-text").textContent = by("opacity").value + "%";
    by("size-text").textContent = by("size").value + "×";
    const state = [chosen, by("opacity").value, Number(by("patches").checked), Number(by("masks").checked), by("size").value,
      Number(by("shortcuts").checked)].join(",");
    for (const link of document.querySelectorAll("a[rel=prev], a[rel=next]")) link.hash = state;
  };
  const restore = () => {
    const [chosen, opacity, patches, masks, size, shortcuts] = decodeURIComponent(location.hash.slice(1)).split(",");
    if (shortcuts === undefined || !radios.some(radio => radio.value === chosen)) return;
    choose(chosen);
    by("opacity").value = opacity; by("size").value = size;
    by("patches").checked = patches === "1"; by("masks").checked = masks === "1"; by("shortcuts").checked = shortcuts === "1";
  };
  const step = (id, by_steps) => { by(id)[by_steps > 0 ? "stepUp" : "stepDown"](); };
  const flip = id => { if (!by(id).disabled) by(id).checked = !by(id).checked; };
  const follow = rel => { const link = document.querySelector("a[rel=" + rel + "]"); if (link) link.click(); };
  const keys = {
    ArrowLeft: () => follow("prev"), ArrowRight: () => follow("next"),
    1: () => choose("malignant"), 2: () => choose("benign"), 3: () => choose("both"),
    o: () => choose(finding() === "none" ? last : "none"),
    "[": () => step("opacity", -1), "]": () => step("opacity", 1),
    p: () => flip("patches"), m: () => flip("masks"), "-": () => step("size", -1), "+": () => step("size", 1),
  };
  document.addEventListener("keydown", event => {
    const isTaken = event.target.matches("input[type=range], input[type=radio]") && event.key.startsWith("Arrow");
    if (!by("shortcuts").checked || isTaken || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    apply();
  });
  tools.addEventListener("input", apply);
  restore();
  tools.hidden = false;
  apply();
})();
