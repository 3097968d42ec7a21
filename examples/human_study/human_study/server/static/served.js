// The page's backend where a server keeps the answers.
import { Problem, run } from "./page.js";

const token = document.querySelector("meta[name=csrf-token]").content;
const parameters = new URLSearchParams(location.search);

async function request(name, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": token },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(`api/${name}`, options);
  } catch {
    throw new Problem("The server cannot be reached. Please check your connection and try again; nothing is lost.");
  }
  const result = await response.json().catch(() => null);
  if (response.ok && result) return result;
  const message = result?.message ?? "The server has a problem. Please try again in a moment; nothing is lost.";
  throw new Problem(message, ["conflict", "withdrawn", "no-session"].includes(result?.error));
}

run({
  state: () => request("state"),
  async join() {
    const accounts = { prolific: parameters.get("PROLIFIC_PID"), mturk: parameters.get("workerId") };
    const state = await request("join", accounts);
    history.replaceState(null, "", location.pathname); // an address that is copied names nobody
    return state;
  },
  resume: (code) => request("resume", { code }),
  answer: (answer) => request("answer", answer),
  withdraw: () => request("withdraw", {}),
});
