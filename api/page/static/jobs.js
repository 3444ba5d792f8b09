// The list by keyboard, and several jobs at once.
const rows = () => [...document.querySelectorAll("tr[data-job]")];
const boxes = () => [...document.querySelectorAll('input[name="id"]')];
const all = document.querySelector("[data-pick-all]");
const many = document.querySelector("[data-many]");

function tell() {
  if (!many) return;
  const picked = boxes().filter((box) => box.checked).length;
  many.disabled = picked === 0;
  many.textContent = picked ? `Cancel ${picked} selected…` : "Cancel selected…";
  all.checked = picked > 0 && picked === boxes().length;
  all.indeterminate = picked > 0 && !all.checked;
}

function go(step) {
  const list = rows();
  const here = list.findIndex((row) => row.hasAttribute("data-here"));
  const next = list[Math.min(Math.max(here + step, 0), list.length - 1)];
  if (!next) return;
  list[here]?.removeAttribute("data-here");
  next.setAttribute("data-here", "");
  next.querySelector("a.name").focus();
}

const here = () => document.querySelector("tr[data-here]");
const keys = {
  j: () => go(1),
  k: () => go(-1),
  x: () => here()?.querySelector('input[name="id"]')?.click(),
  c: () => here()?.querySelector('[data-field="cancel"]:not([hidden])')?.click(),
  "/": () => document.getElementById("text").focus(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (event.ctrlKey || event.metaKey || event.altKey || typing || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});
document.addEventListener("change", (event) => {
  if (event.target === all) for (const box of boxes()) box.checked = all.checked;
  tell();
});
if (all) all.hidden = false;
tell();
