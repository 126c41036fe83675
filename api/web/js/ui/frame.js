// SPDX-License-Identifier: Apache-2.0
/** What is around every view: who is signed in, where one can go, whether the API is there. */

import { useEffect, useState } from "../../vendor/preact-hooks.js";
import { awaySince, may, request, session, signIn, signOut } from "../api.js";
import { asProblem } from "../hooks.js";
import { html } from "../html.js";
import { linkTo, route } from "../route.js";
import { Store, useStore } from "../store.js";
import { generation } from "../watch.js";
import { Messages, Questions, doing } from "./messages.js";
import { Note } from "./parts.js";

/** @typedef {import("../html.js").Children} Children */

const THEMES = ["system", "light", "dark"];
const KEPT_AS = "splitplane-theme";
const theme = new Store(localStorage.getItem(KEPT_AS) ?? "system");

/** @param {string} name */
function useTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}
useTheme(theme.value);
theme.subscribe((name) => {
  localStorage.setItem(KEPT_AS, name);
  useTheme(name);
});

/** @type {[string, string, "operator" | "admin" | null][]} */
const PLACES = [
  ["", "Overview", null],
  ["virtual-servers", "Virtual servers", null],
  ["pools", "Pools and nodes", null],
  ["monitors", "Monitors", null],
  ["flows", "Flows", null],
  ["events", "Events", null],
  ["generations", "Generations", null],
  ["segments", "Segments", null],
  ["metrics", "Metrics", null],
  ["tokens", "Tokens", "admin"],
  ["audit", "Audit log", "admin"],
];

/** @param {{children: Children}} props */
export function Frame({ children }) {
  const who = useStore(session);
  const at = useStore(route).path[0] ?? "";
  const places = PLACES.filter(([, , role]) => role === null || may(who, role));
  return html`<div class="frame">
    <a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => {
      event.preventDefault();
      document.getElementById("main")?.focus();
    }}>Skip to the content</a>
    <${Top} />
    <nav class="side" aria-label="Views"><ul>
      ${places.map(([path, text]) => html`<li key=${path}>
        <a href=${linkTo([path].filter(Boolean))} aria-current=${at === path ? "page" : null}>${text}</a></li>`)}
    </ul></nav>
    <main id="main" tabindex="-1"><${Away} />${children}</main>
    <${Messages} /><${Questions} />
  </div>`;
}

function Top() {
  const who = useStore(session);
  const newest = useStore(generation);
  return html`<header class="top">
    <a class="brand" href="#/"><img src="web/icon.svg" alt="" />splitplane</a>
    ${newest !== null && html`<a class="badge plain" href="#/generations">generation ${newest}</a>`}
    <span class="space"></span>
    <${ThemeSwitch} />
    ${who && html`<span>${who.who} <span class="badge plain">${who.role}</span></span>
      <button class="small" onClick=${() => doing(async () => {
        await signOut();
        return "Signed out.";
      })}>Sign out</button>`}
  </header>`;
}

function ThemeSwitch() {
  const current = useStore(theme);
  return html`<label class="row"><span class="unseen">Colours</span>
    <select aria-label="Colours" value=${current}
      onChange=${(/** @type {any} */ event) => theme.set(event.target.value)}>
      ${THEMES.map((name) => html`<option value=${name} selected=${name === current}>${name}</option>`)}
    </select></label>`;
}

/** The API is away: since when, and a way to try at once. */
function Away() {
  const since = useStore(awaySince);
  useEffect(() => {
    if (since === null) return undefined;
    const timer = setInterval(probe, 3000);
    return () => clearInterval(timer);
  }, [since === null]);
  if (since === null) return null;
  const actions = html`<button class="small" onClick=${probe}>Try now</button>`;
  return html`<div class="away"><${Note} tone="bad" role="alert" actions=${actions}>
    The API has not answered since ${new Date(since).toLocaleTimeString("en-GB")}. What you see may be
    old. Traffic does not need the API: segments go on without it.<//></div>`;
}

/** Ask for something small; the answer ends the banner, and so does a refusal. */
const probe = () => request("GET", "session").catch(() => undefined);

/** Nobody is signed in. */
export function SignIn() {
  const [token, setToken] = useState("");
  const [wrong, setWrong] = useState("");
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    try {
      await signIn(token.trim());
    } catch (error) {
      setWrong(asProblem(error).detail);
    }
  };
  return html`<${Top} /><main id="main" class="sign-in"><${Away} />
    <form class="card" onSubmit=${submit}>
      <h1>Sign in</h1>
      <p class="lead">Open a one-time link, which <code>splitplane run</code> and
        <code>splitplane sign-in</code> print, or give a token.</p>
      <div class="field"><label for="token">Token</label>
        <input id="token" type="password" autocomplete="off" value=${token} autofocus
          aria-invalid=${wrong ? "true" : null} aria-describedby=${wrong ? "token-wrong" : null}
          onInput=${(/** @type {any} */ event) => setToken(event.target.value)} />
        ${wrong && html`<span class="wrong" id="token-wrong" role="alert">${wrong}</span>`}</div>
      <div class="row"><button class="primary" type="submit" disabled=${!token.trim()}>Sign in</button></div>
    </form></main><${Messages} />`;
}
