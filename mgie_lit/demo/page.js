// A picture pasted anywhere on the page (Ctrl-V) becomes the picture to edit.
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  const input = document.querySelector("#picture input[type=file]");
  if (!file || !input) return;
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  event.preventDefault();
});

// The slider between the two pictures can be focused, and moved with the arrow keys, Home and End.
const SHARES = { ArrowLeft: (now) => now - 5, ArrowRight: (now) => now + 5, Home: () => 0, End: () => 100 };

function shareOf(handle) {
  const [own, all] = [handle, handle.parentElement].map((one) => one.getBoundingClientRect());
  return Math.round((100 * (own.x + own.width / 2 - all.x)) / all.width);
}

function slideTo(handle, share) {
  const [own, all] = [handle, handle.parentElement].map((one) => one.getBoundingClientRect());
  const at = (clientX) => ({ bubbles: true, view: window, clientX, clientY: own.y + own.height / 2 });
  handle.dispatchEvent(new MouseEvent("mousedown", at(own.x + own.width / 2)));
  window.dispatchEvent(new MouseEvent("mousemove", at(all.x + (all.width * Math.min(100, Math.max(0, share))) / 100)));
  window.dispatchEvent(new MouseEvent("mouseup", at(own.x)));
}

function describeSlider(handle) {
  const pictures = handle.parentElement.querySelectorAll("img");
  ["before", "after"].forEach((text, place) => pictures[place] && (pictures[place].alt = text));
  const attributes = { tabindex: 0, role: "slider", "aria-label": "Share of the picture before, in percent" };
  Object.assign(attributes, { "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": shareOf(handle) });
  for (const [name, value] of Object.entries(attributes)) handle.setAttribute(name, value);
}

new MutationObserver(() => {
  const handle = document.querySelector("#result [data-testid=slider]:not([tabindex])");
  if (handle) describeSlider(handle);
}).observe(document.documentElement, { childList: true, subtree: true });

document.addEventListener("keydown", (event) => {
  const handle = event.target.closest?.("#result [data-testid=slider]");
  if (!handle || !SHARES[event.key]) return;
  slideTo(handle, SHARES[event.key](shareOf(handle)));
  requestAnimationFrame(() => handle.setAttribute("aria-valuenow", shareOf(handle)));
  event.preventDefault();
});

// On a phone the result lies below the screen: once an edit that was asked for here has come, it is scrolled to.
let isAwaited = false;
let shown = null;

document.addEventListener("click", (event) => (isAwaited ||= Boolean(event.target.closest?.("#edit"))));
document.addEventListener("keydown", (event) => {
  isAwaited ||= event.key === "Enter" && Boolean(event.target.closest?.("#instruction"));
});

new MutationObserver(() => {
  const pictures = document.querySelectorAll("#result img");
  const now = pictures.length ? pictures[pictures.length - 1].src : null;
  if (now === shown) return;
  shown = now;
  if (!now || !isAwaited) return;
  isAwaited = false;
  if (!matchMedia("(max-width: 640px)").matches) return;
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  document.querySelector("#result").scrollIntoView({ behavior, block: "start" });
}).observe(document.documentElement, { attributeFilter: ["src"], childList: true, subtree: true });
