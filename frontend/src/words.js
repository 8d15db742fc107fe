// English is the key; Chinese is looked up. A word that is missing here shows in English.

const CHINESE = {
  "Log in": "登录", "Log out": "退出", "Bearer token": "令牌", Kubeconfig: "Kubeconfig", "or a file": "或选择文件",
  "Paste a kubeconfig that holds a token or a client certificate. Its server is ignored.": "粘贴包含令牌或客户端证书的 kubeconfig，其中的服务器地址会被忽略。",
  "Credentials stay in the memory of the dashboard's process and go nowhere but to the API server.": "凭据只保存在仪表板进程的内存中，只会发送给 API 服务器。",
  Overview: "总览", Architecture: "架构", Menu: "菜单", Nodes: "节点", Workloads: "工作负载", Pods: "Pod", "Recent warnings": "最近的警告",
  Resources: "资源", Search: "搜索", "All namespaces": "所有命名空间", Namespace: "命名空间", Name: "名称", Labels: "标签", Annotations: "注解",
  "Label selector": "标签选择器", Conditions: "状况", Events: "事件", Owners: "所有者", Summary: "概要", Edit: "编辑", Delete: "删除", Scale: "扩缩",
  Restart: "重启", Cordon: "停止调度", Uncordon: "恢复调度", Suspend: "暂停", Resume: "继续", Trigger: "立即运行", Logs: "日志", Shell: "终端", Save: "保存", Check: "检查",
  Cancel: "取消", Close: "关闭", Follow: "跟随", Previous: "上一个", Container: "容器", Download: "下载", Timestamps: "时间戳", Connect: "连接", Command: "命令",
  "No changes": "没有变化", "Changes the server would make": "服务器将作的修改", "Nothing here": "这里什么也没有", "Read-only": "只读", rows: "行", of: "/",
  Ready: "就绪", "Not ready": "未就绪", CPU: "CPU", Memory: "内存", Created: "创建于", Status: "状态", Type: "类型", Reason: "原因", Message: "消息", Age: "时长",
  Healthy: "健康", "No metrics": "没有指标", "The three networks": "三个网络", "Node network": "节点网络", "Pod network": "Pod 网络", "Service network": "服务网络",
  Store: "存储", "API server": "API 服务器", "Controller manager": "控制器管理器", Scheduler: "调度器", Kubelets: "Kubelet", "Held by": "持有者", renewed: "续期于", ago: "前",
  "Delete this object?": "删除这个对象？", Replicas: "副本数", Done: "完成", Saved: "已保存", "Loading…": "加载中…", "More": "更多", Containers: "容器", Image: "镜像", Restarts: "重启次数", State: "状态", Ports: "端口",
  "This object is gone": "此对象已不存在", Unschedulable: "不可调度", "checks pass": "项检查通过", Succeeded: "成功", Running: "运行中", Pending: "等待中", Failed: "失败", Unknown: "未知",
  "Server-side dry run, then a diff, then save": "先在服务器上试运行，再看差异，然后保存", Theme: "主题", "Skip to content": "跳到内容", Address: "地址", Version: "版本", connected: "已连接", ended: "已结束",
  "the connection was refused or broke": "连接被拒绝或中断", "no lease tells": "没有租约可查", "Roll back": "回滚", "Roll back to": "回滚到", "Drain": "驱逐", Revision: "修订版本", Topology: "拓扑",
  Revisions: "修订版本", current: "当前", "no controller would bring it back": "没有控制器会重建它", "Stop scheduling here and evict its pods?": "停止在此节点调度并驱逐其 Pod？",
  "All containers": "所有容器", "exit code": "退出码", "running and ready": "运行中且就绪", "running, not ready": "运行中但未就绪", waiting: "等待中", "Restarts and probes": "重启与探针", restarts: "次重启", now: "现在", "The same in words": "文字说明",
  "A packet's way": "数据包的路径", "What it uses": "资源使用", "Pods that use most": "使用最多的 Pod", "Owner tree": "所有者树", "Client certificate": "客户端证书", "Certificate (PEM)": "证书（PEM）", "Private key (PEM)": "私钥（PEM）",
  "Asked for": "请求的地址", Port: "端口", Endpoint: "端点", ready: "就绪", ending: "正在结束", "not ready: gets nothing": "未就绪：不接收流量", "a client keeps its endpoint": "同一客户端固定到同一端点",
  "from inside only to endpoints of the same node": "集群内部只发往同一节点的端点", "from outside only to endpoints of the node it came to": "外部流量只发往所到节点的端点", preferred: "优先", "also to what is not ready": "也发往未就绪的端点",
  "DNS answers with another name; no packet passes here.": "DNS 返回另一个名称，数据包不经过这里。", "Headless: DNS answers with the endpoints themselves.": "无头服务：DNS 直接返回各端点。",
  "The node's proxy chooses one ready endpoint for each connection and rewrites the address.": "节点上的代理为每个连接选择一个就绪端点并改写地址。",
  "What leads where": "流量去向", "Network policies": "网络策略", "Who may talk to it": "谁可以访问它", "Whom it may talk to": "它可以访问谁", "no policy: open": "没有策略：开放", "all ports": "所有端口",
  "Choose pods in the middle. Where no policy selects them, everyone may talk to them; pods of the node's own network are not shown.": "在中间选择 Pod。没有策略选中的 Pod 对所有人开放；使用节点网络的 Pod 不显示。",
  Proxies: "代理", "nothing tells": "无从得知", "watches of EndpointSlices are open": "个 EndpointSlice 监视已打开", objects: "个对象", "connected: its watches are open": "已连接：其监视已打开", "its watches are not open": "其监视未打开",
  "Request rates are in /metrics, which you may not read": "请求速率在 /metrics 中，您无权读取", "reads/s": "次读/秒", "writes/s": "次写/秒", "errors/s": "次错误/秒", "measuring…": "测量中…", "open watches": "个打开的监视", "addresses are taken": "个地址已占用",
  "Not readable:": "无法解析：", "Unknown field:": "未知字段：", "Missing field:": "缺少字段：", "Must be:": "必须是：", Line: "第", Values: "可选值", Fields: "可选字段", "Help from the schema": "来自模式的帮助", "The server has no schema of this kind": "服务器没有此类型的模式",
  stays: "保留", "its DaemonSet would bring it back here": "其 DaemonSet 会在此重建它", "static, of the node itself": "节点自身的静态 Pod", "it would lose what is in its emptyDir": "其 emptyDir 中的数据会丢失", "Evict these as well": "也驱逐这些", Drained: "已驱逐完毕", "Stop waiting": "停止等待", "evicted, ending": "已驱逐，正在结束", gone: "已消失",
  Ingress: "Ingress", Service: "服务", Workload: "工作负载", Pod: "Pod", Node: "节点",
  Cluster: "集群", Network: "网络", Storage: "存储", Configuration: "配置", Access: "权限", "Custom and other": "自定义及其他", Probes: "探针",
};

let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
document.documentElement.lang = language;

export const t = (words) => (language === "zh" && CHINESE[words]) || words;
export const currentLanguage = () => language;
export function speak(other) {
  language = other;
  localStorage.setItem("language", other);
  document.documentElement.lang = other;
}

export function age(time, now = Date.now()) {
  if (!time) return "";
  const seconds = Math.max(0, Math.floor((now - Date.parse(time)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return `${minutes}m${seconds % 60 ? (seconds % 60) + "s" : ""}`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}h`;
  return `${Math.floor(hours / 24)}d`;
}

const UNITS = { n: 1e-9, u: 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, Ki: 1024, Mi: 1024 ** 2, Gi: 1024 ** 3, Ti: 1024 ** 4 };
export function quantity(text) {
  const match = /^([0-9.eE+-]+)([a-zA-Z]*)$/.exec(text || "0");
  return match ? Number(match[1]) * (UNITS[match[2]] || 1) : 0;
}
export const cores = (n) => (n < 0.1 && n > 0 ? `${(n * 1000).toFixed(n < 0.01 ? 1 : 0)}m` : n.toFixed(2));
export function bytes(n) {
  for (const unit of ["Ti", "Gi", "Mi", "Ki"]) if (n >= UNITS[unit]) return `${(n / UNITS[unit]).toFixed(1)} ${unit}B`;
  return `${n} B`;
}
