// The page: shows where the participant is, and hands on what they do. Where answers go is the matter of a backend:
//   state()              where the participant is: {stage: "consent" | "item" | "done" | "withdrawn", ...}
//   join(), resume(code) begin, or go on by a code (only where a server keeps answers); return a state
//   answer(answer)       saves an answer; returns {feedback, next} once it is saved
//   withdraw()           deletes all answers; returns a state
// A backend throws a Problem, whose message is shown.

export class Problem extends Error {
  constructor(message, reload = false) {
    super(message);
    this.reload = reload; // the page should ask anew where the participant is
  }
}

const $ = (id) => document.getElementById(id);
const SECTIONS = ["consent", "instructions", "item", "feedback", "done", "withdrawn"];
const SITE_TITLE = document.title;
let state = null;
let busy = false;

export function run(backend) {
  const attempt = async (work, button) => {
    if (busy) return; // a second click
    busy = true;
    sayProblem("");
    button?.setAttribute("aria-disabled", "true"); // still has the focus, unlike one that is disabled
    try {
      await work();
    } catch (error) {
      const known = error instanceof Problem;
      const message = known ? error.message : "Something went wrong. Please load the page again.";
      if (known && error.reload) await backend.state().then(show, () => {});
      sayProblem(message); // after show(), which clears it
      if (!known) console.error(error);
    } finally {
      busy = false;
      button?.removeAttribute("aria-disabled");
    }
  };
  const on = (id, event, work) =>
    $(id).addEventListener(event, (occurred) => {
      occurred.preventDefault();
      const button = occurred.submitter ?? (event === "click" ? occurred.currentTarget : null);
      attempt(work, button);
    });

  on("agree", "click", async () => {
    state = await backend.join();
    show(state.stage === "item" && state.position === 0 ? { ...state, stage: "instructions" } : state);
  });
  if (backend.resume) on("return-form", "submit", async () => show(await backend.resume($("code-input").value)));
  on("begin", "click", async () => show({ ...state, stage: "item" }));
  on("answer", "submit", async () => {
    const answer = readForm();
    if (!answer) return;
    const { feedback, next } = await backend.answer(answer);
    if (feedback) showFeedback(feedback, answer.reasonable, next);
    else show(next);
  });
  on("go-on", "click", async () => show(state));
  on("leave", "click", async () => $("leaving").showModal());
  on("leave-no", "click", async () => $("leaving").close());
  on("leave-yes", "click", async () => {
    $("leaving").close();
    show(await backend.withdraw());
  });
  on("enlarged-close", "click", async () => $("enlarged").close());
  for (const button of document.querySelectorAll(".enlarge")) {
    button.addEventListener("click", () => enlarge(button));
  }
  for (const name of ["reasonable", "trust"]) {
    $(`${name}-choice`).addEventListener("change", () => setError(name, ""));
  }
  attempt(async () => show(await backend.state()));
}

function show(next) {
  state = next;
  sayProblem("");
  if (next.stage === "item") fillItem(next);
  if (next.stage === "done") fillDone(next);
  for (const place of document.querySelectorAll("[data-code]")) place.textContent = next.code ?? "";
  for (const notice of document.querySelectorAll("[data-code-notice]")) notice.hidden = !next.code;
  $("leave").hidden = next.sent || !["instructions", "item", "done"].includes(next.stage);
  open(next.stage);
}

// Show one section; those who cannot see it are brought to its heading.
function open(section) {
  const first = SECTIONS.every((name) => $(name).hidden);
  for (const name of SECTIONS) $(name).hidden = name !== section;
  $("progress").hidden = section !== "item" && section !== "feedback";
  const heading = $(section).querySelector("h1");
  document.title = section === "consent" ? SITE_TITLE : `${heading.textContent.trim()} – ${SITE_TITLE}`;
  scrollTo(0, 0);
  if (first) return; // the page has just been loaded: it is read from the top
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

function fillItem({ position, total, item }) {
  showProgress(position, total);
  $("number").textContent = `Item ${position + 1} of ${total}`;
  $("practice").hidden = !item.practice;
  $("asked").replaceChildren(...(item.marked.length ? caption(item) : question(item)));
  $("answer").reset();
  setError("reasonable", "");
  setError("trust", "");
  clock.stop();
  Promise.all([setPicture("picture", item.image), setPicture("picture-a", item.a), setPicture("picture-b", item.b)])
    .then(() => clock.start(), () => state?.item === item && sayProblem("A picture did not load. Please load the page again."));
}

// Resolves when the picture can be seen. Its size is known before, so that nothing moves when it comes.
function setPicture(id, source) {
  const picture = $(id);
  [picture.width, picture.height] = state.item.size;
  picture.src = source;
  return picture.decode();
}

function showProgress(position, total) {
  $("progress-text").textContent = `${position} of ${total} done`;
  $("bar").max = total;
  $("bar").value = position;
}

function sayProblem(message) {
  $("problem").textContent = message;
  if (message) $("problem").scrollIntoView({ block: "nearest" });
}

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function question({ text, answer }) {
  return [
    element("span", "Question: ", "quiet"), element("strong", text), element("br", ""),
    element("span", "Answer: ", "quiet"), element("strong", answer),
  ];
}

function caption({ text, marked }) {
  const words = text.split(" ").flatMap((word, i) => [element(marked.includes(i) ? "mark" : "span", word), " "]);
  return [
    element("span", "Description: ", "quiet"), ...words, element("br", ""),
    element("span", "The explanations are about the marked word.", "quiet"),
  ];
}

// Seconds for which the item was visible, from when its pictures are there; a hidden tab does not count.
const clock = {
  runs: false,
  milliseconds: 0,
  since: null,
  stop() {
    this.runs = false;
    this.milliseconds = 0;
    this.since = null;
  },
  start() {
    this.runs = true;
    this.turn();
  },
  turn() {
    if (this.since !== null) this.milliseconds += performance.now() - this.since;
    this.since = this.runs && !document.hidden ? performance.now() : null;
  },
  seconds() {
    this.turn();
    return Math.round(this.milliseconds) / 1000;
  },
};
document.addEventListener("visibilitychange", () => clock.turn());

// The answer in the form; null if a choice is missing, which is then said at its question.
function readForm() {
  const form = $("answer");
  const missing = ["reasonable", "trust"].filter((name) => form.elements[name].value === "");
  for (const name of missing) setError(name, "Please choose one of the five.");
  if (missing.length) {
    form.elements[missing[0]][0].focus();
    return null;
  }
  return {
    position: state.position,
    item: state.item.id,
    reasonable: Number(form.elements.reasonable.value),
    trust: Number(form.elements.trust.value),
    reason: form.elements.reason.value.trim(),
    seconds: clock.seconds(),
  };
}

function setError(name, message) {
  $(`${name}-error`).textContent = message;
  for (const input of $("answer").elements[name]) input.toggleAttribute("aria-invalid", message !== "");
}

function showFeedback({ expected, text }, reasonable, next) {
  const chosen = reasonable < 0 ? "A" : reasonable > 0 ? "B" : "";
  $("verdict").textContent = `${chosen === expected ? "Right: explanation" : "Explanation"} ${expected} is more reasonable`;
  $("feedback-text").textContent = text;
  for (const side of ["a", "b"]) $(`feedback-${side}`).src = $(`picture-${side}`).src;
  sayProblem("");
  state = next;
  if (next.stage === "item") showProgress(next.position, next.total);
  open("feedback");
}

function fillDone({ completion_code: code, completion_url: url }) {
  $("completion").hidden = !code;
  $("completion-code").textContent = code ?? "";
  $("completion-link").hidden = !url;
  if (url) $("completion-link").href = url;
}

function enlarge(button) {
  $("enlarged-title").textContent = button.parentElement.querySelector("figcaption").textContent;
  $("enlarged-picture").src = button.querySelector("img").src;
  $("enlarged").showModal();
}
