// The newest experiments, read again every second. A client of the public API like any other.

const table = document.querySelector("table");
const rows = table.querySelector("tbody");
const state = document.querySelector("#state");
const first = document.querySelector("#first");

document.querySelector("#curl").textContent =
  `curl -X POST ${location.origin}/experiments -H 'Content-Type: application/json' ` +
  `-d '{"activation": "relu", "depth": 1}'`;

function cell(content) {
  const td = document.createElement("td");
  td.append(content);
  return td;
}

function link(text, href) {
  const a = document.createElement("a");
  a.href = href;
  a.textContent = text;
  return a;
}

function progress({ epoch, epochs }) {
  const bar = document.createElement("progress");
  bar.value = epoch;
  bar.max = epochs;
  const span = document.createElement("span");
  span.append(bar, ` ${epoch} of ${epochs}`);
  return span;
}

function row(experiment) {
  const { spec, result, links } = experiment;
  const name = spec.name ?? `${spec.activation}, depth ${spec.depth}`;
  const tr = document.createElement("tr");
  tr.append(
    cell(link(name, links.self)),
    cell(experiment.error ? `failed: ${experiment.error.message}` : experiment.status),
    cell(progress(experiment.progress)),
    cell(result ? result.test_accuracy.toFixed(4) : ""),
    cell(result ? result.test_loss.toFixed(4) : ""),
    cell(link("metrics", links.metrics)),
  );
  return tr;
}

async function refresh() {
  try {
    const response = await fetch("/experiments?limit=50");
    const body = await response.json();
    if (!response.ok) throw new Error(body.detail);
    rows.replaceChildren(...body.data.map(row));
    table.hidden = body.data.length === 0;
    first.hidden = body.data.length > 0;
    state.textContent = body.next_cursor ? "The newest 50; GET /experiments lists the others." : "";
  } catch (error) {
    state.textContent = `The service does not answer (${error.message}). Trying again.`;
  }
  setTimeout(refresh, 1000);
}

refresh();
