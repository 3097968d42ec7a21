// The page's backend where it is hosted as files: the browser keeps the answers until the end, and then sends them.
//
// Parameters of the address: row=0, 1, 2, ... is the participant's row of the design (at random without it). Amazon
// Mechanical Turk adds assignmentId and turkSubmitTo, Prolific adds PROLIFIC_PID.
import { Problem, run } from "./page.js";

const MTURK = ["https://www.mturk.com", "https://workersandbox.mturk.com"];
const parameters = new URLSearchParams(location.search);
const assignment = parameters.get("assignmentId");
const { study, postUrl } = document.body.dataset;
const slot = `${study} ${assignment ?? parameters.get("PROLIFIC_PID") ?? ""}`; // a shared computer may have several
let saved = restore();
let about = null; // rows.json and the row of the participant
let sequence = [];

async function load(name) {
  const response = await fetch(name).catch(() => null);
  if (!response?.ok) throw new Problem("A part of the page did not load. Please check your connection and load it again.");
  return response.json();
}

async function prepare() {
  about ??= await load("rows.json");
  if (saved?.answers && !sequence.length) sequence = await load(`rows/${saved.row}.json`);
}

// A browser may forbid a page to keep anything: then it cannot be closed half-way, but works.
function restore() {
  try {
    return JSON.parse(localStorage.getItem(slot));
  } catch {
    return null;
  }
}

function keep() {
  try {
    localStorage.setItem(slot, JSON.stringify(saved));
  } catch (error) {
    console.warn(error);
  }
}

function chosenRow() {
  const given = Number(parameters.get("row") ?? NaN);
  return Number.isInteger(given) && given >= 0 ? given % about.rows : Math.floor(Math.random() * about.rows);
}

function source() {
  return assignment ? "mturk" : parameters.has("PROLIFIC_PID") ? "prolific" : "link";
}

function current() {
  if (!saved) return { stage: "consent" };
  if (saved.withdrawn) return { stage: "withdrawn" };
  const position = saved.answers.length;
  if (position === sequence.length) return done();
  const { feedback, ...item } = sequence[position];
  return { stage: "item", position, total: sequence.length, item };
}

function done() {
  offerFile();
  const state = { stage: "done", sent: true, code: saved.session };
  if (assignment) return state; // Mechanical Turk knows already
  const code = about.completion_code;
  const url = source() === "prolific" ? `https://app.prolific.com/submissions/complete?cc=${code}` : undefined;
  return { ...state, completion_code: code, completion_url: url };
}

// Where no address takes the answers, the participant gets them as a file to send.
function offerFile() {
  const link = document.getElementById("answers-file");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(saved)], { type: "application/json" }));
  link.download = `answers-${saved.session}.json`;
  document.getElementById("send-file").hidden = Boolean(assignment || postUrl);
}

async function send() {
  if (assignment) return submitToMturk();
  if (!postUrl) return;
  const body = JSON.stringify(saved);
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body, credentials: "omit" };
  const response = await fetch(postUrl, options).catch(() => null);
  if (!response?.ok) throw new Problem("Your answers could not be sent. They are kept in this browser: please try again.");
}

function submitToMturk() {
  const host = parameters.get("turkSubmitTo");
  if (!MTURK.includes(host)) throw new Problem("This page was not opened by Mechanical Turk, so it cannot send your answers.");
  const form = document.createElement("form");
  form.method = "POST";
  form.action = `${host}/mturk/externalSubmit`;
  for (const [name, value] of [["assignmentId", assignment], ["answers", JSON.stringify(saved)]]) {
    const input = document.createElement("input");
    input.type = "hidden";
    Object.assign(input, { name, value });
    form.append(input);
  }
  document.body.append(form);
  form.submit();
}

run({
  async state() {
    await prepare();
    return current();
  },
  async join() {
    if (assignment === "ASSIGNMENT_ID_NOT_AVAILABLE") throw new Problem("This is a preview. Please accept the HIT first.");
    await prepare();
    const session = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"));
    saved = { format: 1, study, session: session.join(""), row: chosenRow(), source: source(), answers: [] };
    keep();
    await prepare();
    return current();
  },
  async answer(answer) {
    const feedback = sequence[answer.position].feedback ?? null;
    if (answer.position === saved.answers.length) saved.answers.push(answer);
    if (saved.answers.length === sequence.length) {
      try {
        await send();
      } catch (error) {
        saved.answers.pop();
        throw error;
      }
    }
    keep();
    return { feedback, next: current() };
  },
  async withdraw() {
    saved = { withdrawn: true };
    keep();
    return current();
  },
});
