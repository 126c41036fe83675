// SPDX-License-Identifier: Apache-2.0
/** The page's beginning: who is signed in, then the view that its address names. */

import { render } from "../vendor/preact.js";
import { useEffect } from "../vendor/preact-hooks.js";
import { awaySince, loadSession, session, signIn } from "./api.js";
import { asProblem } from "./hooks.js";
import { html } from "./html.js";
import { route } from "./route.js";
import { useStore } from "./store.js";
import { Frame, SignIn } from "./ui/frame.js";
import { say } from "./ui/messages.js";
import { Head } from "./ui/parts.js";
import { Audit } from "./views/audit.js";
import { Events } from "./views/events.js";
import { Flows } from "./views/flows.js";
import { GenerationView, Generations } from "./views/generations.js";
import { Metrics } from "./views/metrics.js";
import { MonitorView, Monitors } from "./views/monitors.js";
import { Overview } from "./views/overview.js";
import { PoolForm, PoolView, Pools } from "./views/pools.js";
import { Segments } from "./views/segments.js";
import { GroupSettings } from "./views/settings.js";
import { Tokens } from "./views/tokens.js";
import { VirtualServerForm, VirtualServerView, VirtualServers } from "./views/virtual_servers.js";
import { collect } from "./series.js";
import { watch } from "./watch.js";

const AGAIN_MS = 2000;
const SECRET = /^#sign-in=(.+)$/;

/** By the parts of the address; "*" is a name, which the view gets. @type {[string, any][]} */
const VIEWS = [
  ["", Overview],
  ["virtual-servers", VirtualServers],
  ["virtual-servers/+new", VirtualServerForm],
  ["virtual-servers/*", VirtualServerView],
  ["virtual-servers/*/edit", VirtualServerForm],
  ["pools", Pools],
  ["pools/+new", PoolForm],
  ["pools/*", PoolView],
  ["pools/*/edit", PoolForm],
  ["monitors", Monitors],
  ["monitors/+new", MonitorView],
  ["monitors/*", MonitorView],
  ["flows", Flows],
  ["events", Events],
  ["generations", Generations],
  ["generations/*", GenerationView],
  ["segments", Segments],
  ["settings/*", GroupSettings],
  ["metrics", Metrics],
  ["tokens", Tokens],
  ["audit", Audit],
];

/** @param {string[]} path */
function viewOf(path) {
  const fits = (/** @type {string} */ pattern) => {
    const parts = pattern.split("/").filter(Boolean);
    return (
      parts.length === path.length &&
      parts.every((part, index) => part === path[index] || (part === "*" && path[index] !== "+new"))
    );
  };
  const view = VIEWS.find(([pattern]) => fits(pattern))?.[1];
  return view ? html`<${view} key=${path.join("/")} name=${path[1] === "+new" ? undefined : path[1]} />` : null;
}

function Page() {
  const who = useStore(session);
  const { path } = useStore(route);
  const signedIn = Boolean(who);
  useEffect(() => {
    if (!signedIn) return undefined;
    const ends = [watch(), collect()];
    return () => ends.forEach((end) => end());
  }, [signedIn]);
  if (who === undefined) return null;
  if (who === null) return html`<${SignIn} />`;
  const missing = html`<${Head} title="There is no such view" />`;
  return html`<${Frame}>${viewOf(path) ?? missing}<//>`;
}

/** The secret goes out of the address before anything else happens. */
async function begin() {
  const secret = SECRET.exec(location.hash)?.[1];
  if (secret) {
    history.replaceState(null, "", "#/");
    route.set({ path: [], query: new URLSearchParams() });
    try {
      await signIn(decodeURIComponent(secret));
      return;
    } catch (error) {
      say(asProblem(error).detail, "bad");
    }
  }
  await loadSession();
}

/** Until the API has said who is signed in; it may be away when the page is opened. */
async function beginUntilKnown() {
  try {
    await begin();
  } catch {
    session.set(session.value ?? null);
    const back = awaySince.subscribe((since) => {
      if (since !== null) return;
      back();
      setTimeout(() => loadSession().catch(() => undefined), AGAIN_MS / 10);
    });
  }
}

const place = document.getElementById("page");
if (place) render(html`<${Page} />`, place);
addEventListener("hashchange", () => {
  if (SECRET.test(location.hash)) beginUntilKnown();
});
beginUntilKnown();
