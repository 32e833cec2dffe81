// Reads the traces that the page holds and draws every section.

function read(id) {
  const text = $(id).textContent;
  return text ? JSON.parse(text) : null;
}

function drawRun(run) {
  $("what").textContent = run.title;
  drawHeadline(run);
  drawBreakdown(run);
  drawRoofline(run);
  drawTickStatistics(run);
  drawLayers(run);
  drawMemory(run);
  drawInstructions(run);
  drawRequests(run);
  drawAbout(run);
}

function start() {
  const documents = [read("document"), read("other")].filter(Boolean);
  const runs = documents.map((document, index) => new Run(document, "AB"[index]));
  themeButton($("theme"));
  drawRun(runs[0]);
  drawTimeline(runs);
  if (runs.length > 1) {
    drawComparison(runs);
    $("shown").replaceWith(choice("The run that is shown", runs.map((run) => [run, run.name]), runs[0], drawRun));
  }
  document.documentElement.dataset.ready = "yes";
}

start();
