import { useState } from "preact/hooks";
import { logIn } from "../api.js";
import { Tabs } from "../parts/tabs.jsx";
import { currentLanguage, t } from "../words.js";

const WAYS = [["token", "Bearer token"], ["certificate", "Client certificate"], ["kubeconfig", "Kubeconfig"]];

export function Login({ onLogin, onLanguage }) {
  const [way, setWay] = useState("token");
  const [given, setGiven] = useState({});
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);

  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      onLogin(await logIn(given));
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  };
  const set = (name) => (event) => setGiven({ ...given, [name]: event.currentTarget.value });
  const upload = (name) => async (event) => {
    const text = (await event.currentTarget.files[0]?.text()) || "";
    setGiven((old) => ({ ...old, [name]: text }));
  };
  const choose = (other) => {
    setWay(other);
    setGiven({});
    setProblem("");
  };
  return (
    <main class="login">
      <form onSubmit={submit}>
        <h1>Peavine</h1>
        <Tabs tabs={WAYS} at={way} onChoose={choose} />
        <div class="fields" role="tabpanel" id="panel" aria-labelledby={`tab-${way}`}>
          {way === "token" && <label>{t("Bearer token")}<input name="token" type="password" autocomplete="off" required value={given.token || ""} onInput={set("token")} /></label>}
          {way === "certificate" && (
            <>
              <Pem name="certificate" title="Certificate (PEM)" value={given.certificate} onInput={set("certificate")} onFile={upload("certificate")} />
              <Pem name="key" title="Private key (PEM)" value={given.key} onInput={set("key")} onFile={upload("key")} />
            </>
          )}
          {way === "kubeconfig" && (
            <>
              <Pem name="kubeconfig" title="Kubeconfig" value={given.kubeconfig} onInput={set("kubeconfig")} onFile={upload("kubeconfig")} />
              <p class="hint">{t("Paste a kubeconfig that holds a token or a client certificate. Its server is ignored.")}</p>
            </>
          )}
        </div>
        {problem && <p class="problem" role="alert">{problem}</p>}
        <button class="primary" disabled={busy}>{t("Log in")}</button>
        <p class="hint">{t("Credentials stay in the memory of the dashboard's process and go nowhere but to the API server.")}</p>
        <button type="button" class="quiet" onClick={onLanguage}>{currentLanguage() === "zh" ? "English" : "中文"}</button>
      </form>
    </main>
  );
}

function Pem({ name, title, value, onInput, onFile }) {
  return (
    <>
      <label>{t(title)}<textarea name={name} rows={5} spellcheck={false} required value={value || ""} onInput={onInput} /></label>
      <label>{t("or a file")}<input name={`${name}-file`} type="file" onChange={onFile} /></label>
    </>
  );
}
