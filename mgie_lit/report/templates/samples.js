// Filters and order of the grids of samples; without it all samples are shown as they are.
for (const grid of document.querySelectorAll(".grid")) {
  const form = grid.querySelector(".controls");
  const list = grid.querySelector(".samples");
  const cards = [...list.children];
  const one = (name) => form.querySelector(`[data-filter="${name}"]`)?.value ?? "";

  const matches = (card, words, chosen, system) => {
    const own = JSON.parse(card.dataset.categories);
    return words.every((word) => card.dataset.text.includes(word))
      && chosen.every(([name, value]) => own[name] === value)
      && (!system || card.querySelector(`[data-system="${system}"]`));
  };

  const badness = (card, system) => {
    const outputs = [...card.querySelectorAll("[data-badness]")];
    const found = outputs.filter((output) => !system || output.dataset.system === system);
    return found.length ? Math.max(...found.map((output) => Number(output.dataset.badness))) : NaN;
  };

  const update = () => {
    const words = one("text").toLowerCase().split(/\s+/).filter(Boolean);
    const selects = [...form.querySelectorAll('[data-filter="category"]')].filter((select) => select.value);
    const chosen = selects.map((select) => [select.dataset.name, select.value]);
    const system = one("system");
    const sign = { worst: 1, best: -1 }[one("order")] ?? 0;
    const ranked = cards.map((card, index) => ({ card, index, bad: badness(card, system) }));
    ranked.sort((a, b) => (sign && (Number.isNaN(a.bad) - Number.isNaN(b.bad) || sign * (b.bad - a.bad))) || a.index - b.index);
    let shown = 0;
    for (const { card } of ranked) {
      card.hidden = !matches(card, words, chosen, system);
      shown += card.hidden ? 0 : 1;
      for (const output of card.querySelectorAll(".output")) {
        output.hidden = Boolean(system) && output.dataset.system !== system;
      }
    }
    list.append(...ranked.map(({ card }) => card));
    form.querySelector("output").textContent = `${shown} of ${cards.length} samples`;
  };

  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}
