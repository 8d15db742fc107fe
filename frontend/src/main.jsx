import { render } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import "./style.css";
import { discover, logOut, resume, whenSessionEnds } from "./api.js";
import { currentLanguage, speak, t } from "./words.js";
import { CUSTOM, sections } from "./sections.js";
import { Login } from "./pages/login.jsx";
import { Overview } from "./pages/overview.jsx";
import { List } from "./pages/list.jsx";
import { Detail } from "./pages/detail.jsx";
import { Architecture } from "./pages/architecture.jsx";
import { Topology } from "./pages/topology.jsx";

function where() {
  const [path, query] = (location.hash.slice(1) || "/overview").split("?");
  return { parts: path.split("/").slice(1).map(decodeURIComponent), query: new URLSearchParams(query) };
}

function App() {
  const [state, setState] = useState({ known: false, session: null });
  const [place, setPlace] = useState(where);
  const [kinds, setKinds] = useState([]);
  const [problem, setProblem] = useState("");
  const [menu, setMenu] = useState(false);
  const [, repaint] = useState(0);

  useEffect(() => {
    const moved = () => {
      setPlace(where());
      setMenu(false);
    };
    addEventListener("hashchange", moved);
    whenSessionEnds(() => setState({ known: true, session: null }));
    resume().then((session) => setState({ known: true, session }), () => setState({ known: true, session: null }));
    return () => removeEventListener("hashchange", moved);
  }, []);
  // Kinds that stayed as they were stay the same objects: pages that show them do not begin anew.
  const learn = (again) =>
    discover(again).then(
      (fresh) => {
        setProblem("");
        setKinds((old) => fresh.map((kind) => old.find((known) => JSON.stringify(known) === JSON.stringify(kind)) || kind));
      },
      (error) => setProblem(error.message),
    );
  useEffect(() => {
    if (state.session) learn();
  }, [state.session]);
  const unknown = kinds.length > 0 && /^[ro]$/.test(place.parts[0]) && !kindAt(kinds, place);
  useEffect(() => {
    // It may be defined since the kinds were asked for.
    if (unknown) learn(true);
  }, [unknown, place]);

  const language = () => {
    speak(currentLanguage() === "zh" ? "en" : "zh");
    repaint((n) => n + 1);
  };
  if (!state.known) return null;
  if (!state.session) return <Login onLogin={(session) => setState({ known: true, session })} onLanguage={language} />;
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById("main").focus(); }}>{t("Skip to content")}</a>
      <header>
        <button class="menu-button" aria-expanded={menu} aria-controls="menu" onClick={() => setMenu(!menu)}>☰ <span class="sr">{t("Menu")}</span></button>
        <a class="brand" href="#/overview">Peavine</a>
        {state.session.readOnly && <span class="badge warn">{t("Read-only")}</span>}
        <span class="grow" />
        <span class="user" title={(state.session.user.groups || []).join(", ")}>{state.session.user.username}</span>
        <button onClick={language} lang={currentLanguage() === "zh" ? "en" : "zh"}>{currentLanguage() === "zh" ? "English" : "中文"}</button>
        <button onClick={logOut}>{t("Log out")}</button>
      </header>
      <Menu kinds={kinds} place={place} open={menu} onCustom={() => learn(true)} />
      <main id="main" tabIndex={-1}>
        {problem && <p class="problem" role="alert">{problem}</p>}
        <Page place={place} kinds={kinds} />
      </main>
    </div>
  );
}

function kindAt(kinds, { parts: [, group, version, plural] }) {
  return kinds.find((k) => k.group === (group === "core" ? "" : group) && k.version === version && k.plural === plural);
}

function Page({ place, kinds }) {
  const [first, group, , plural, namespace, name] = place.parts;
  const kind = useMemo(() => kindAt(kinds, place), [kinds, place]);
  if (first === "topology") return <Topology key={place.query.toString()} query={place.query} />;
  if (first === "architecture") return <Architecture />;
  if (first === "r" && kind) return <List key={`${group}/${plural}`} kind={kind} query={place.query} />;
  if (first === "o" && kind)
    return <Detail key={place.parts.join("/") + place.query} kind={kind} namespace={namespace === "-" ? "" : namespace} name={name} tab={place.query.get("tab")} />;
  if (first === "r" || first === "o") return <p>{kinds.length ? t("Nothing here") : t("Loading…")}</p>;
  return <Overview />;
}

function Menu({ kinds, place, open, onCustom }) {
  const [filter, setFilter] = useState("");
  const here = place.parts.slice(1, 4).join("/");
  const shown = sections(kinds.filter((k) => !filter || [k.kind, k.plural, ...k.short].some((w) => w.toLowerCase().includes(filter.toLowerCase()))));
  return (
    <nav id="menu" class={open ? "open" : ""} aria-label={t("Menu")}>
      <a href="#/overview" aria-current={place.parts[0] === "overview" ? "page" : undefined}>{t("Overview")}</a>
      <a href="#/topology" aria-current={place.parts[0] === "topology" ? "page" : undefined}>{t("Topology")}</a>
      <a href="#/architecture" aria-current={place.parts[0] === "architecture" ? "page" : undefined}>{t("Architecture")}</a>
      <input type="search" placeholder={t("Resources")} aria-label={t("Resources")} value={filter} onInput={(e) => setFilter(e.currentTarget.value)} />
      {shown.map(([title, of]) => (
        <details open={!!filter || title !== CUSTOM} key={title} onToggle={(e) => title === CUSTOM && e.currentTarget.open && onCustom()}>
          <summary>{t(title)}</summary>
          {of.map((k) => {
            const target = `${k.group || "core"}/${k.version}/${k.plural}`;
            return <a key={target} href={`#/r/${target}`} title={k.group || "v1"} aria-current={here === target ? "page" : undefined}>{k.kind}</a>;
          })}
        </details>
      ))}
    </nav>
  );
}

render(<App />, document.getElementById("app"));
