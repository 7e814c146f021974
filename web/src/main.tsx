// Where the page begins.
import { render } from "preact";
import { App } from "./app";
import { startLive } from "./core/live";
import { askWho } from "./core/login";
import { applyPreferences } from "./core/preferences";
import { startRouter } from "./core/router";
import "./style/tokens.css";
import "./style/base.css";
import "./style/shell.css";
import "./style/components.css";

applyPreferences();
startRouter();
startLive();
render(<App />, document.getElementById("page")!);
void askWho();
