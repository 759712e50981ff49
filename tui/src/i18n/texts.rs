//! The table of texts. Long because it is the whole of what the console says.

use super::Lang;

macro_rules! texts {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        /// A text of the console.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // the text itself says what it is
        pub enum T {
            $($name,)*
        }

        impl T {
            /// Every text.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the text in a language.
            pub fn of(self, lang: Lang) -> &'static str {
                match (self, lang) {
                    $((Self::$name, Lang::En) => $en, (Self::$name, Lang::Zh) => $zh,)*
                }
            }
        }
    };
}

texts! {
    // Screens.
    Overview: "Overview", "总览";
    Replicas: "Control plane", "控制平面";
    Tenants: "Tenants", "租户";
    Consortiums: "Consortiums", "联盟";
    Proposals: "Proposals", "提案";
    Chains: "Chains", "链";
    Nodes: "Nodes", "节点";
    Hosts: "Hosts", "主机";
    Clouds: "Clouds", "云";
    Machines: "Machines", "机器";
    Findings: "Findings", "诊断";
    Monitor: "Monitor", "监控";
    Artifacts: "Artifacts", "软件";
    Operations: "Operations", "作业";
    Explorer: "Explorer", "区块浏览";
    Preflight: "Preflight", "预检";
    Governance: "Governance", "治理";
    Audit: "Audit", "审计";
    Billing: "Billing", "账单";
    Messages: "Messages", "消息";
    Help: "Help", "帮助";
    Facts: "Facts", "详情";
    AsJson: "JSON", "JSON";

    // Header and frame.
    Leader: "leader", "主副本";
    NoLeader: "no leader", "没有主副本";
    Term: "term", "任期";
    Revision: "rev", "版本";
    Lag: "lag", "落后";
    Connecting: "connecting...", "连接中...";
    NotLoggedIn: "not logged in", "未登录";
    RoleWord: "role", "角色";
    ReadOnly: "[RO]", "[只读]";
    Ago: "{} ago", "{} 前";
    DataAge: "data {} ago", "数据 {} 前";
    Live: "LIVE", "实时";
    Stale: "STALE", "过时";
    Busy: "busy", "忙";
    FilterWord: "filter:", "过滤:";
    TooSmall: "terminal too small (need 80x20)", "终端太小 (需要 80x20)";
    LostLine: "No leader answers; data of revision {}.", "没有主副本应答; 显示的是版本 {} 的数据。";
    Retrying: "Retrying in {} (attempt", "将在 {} 后重试 (第";
    RetryEnd: ")", "次)";
    WritesOff: "writes disabled", "禁止修改";
    GoTo: "go to", "前往";

    // Why nothing can be changed.
    BlockReadOnly: "read-only console: changes are off", "只读控制台: 不能修改";
    BlockNoLeader: "no leader: changes are off until one answers", "没有主副本: 恢复前不能修改";
    BlockBusy: "another change is under way", "另一个修改正在进行";
    BlockNoSession: "not logged in", "未登录";
    BlockRole: "your role may only look", "您的角色只能查看";
    BlockTenant: "only an account of a voting member can vote", "只有有投票权的成员账户可以投票";
    BlockClosed: "this proposal is decided", "该提案已有结果";
    BlockVoted: "your tenant has voted", "您的租户已经投票";
    BlockDeleted: "this chain is deleted: take that back first", "该链已删除: 请先撤销删除";
    BlockNotDeleted: "this chain is not deleted", "该链未被删除";
    BlockNoWayBack: "no upgrade of this chain is under way that could be rolled back", "该链没有可回退的升级";
    BlockPaused: "this chain is paused: resume it first", "该链已暂停: 请先恢复";
    Rolling: "ROLLING", "滚动更新";
    Program: "PROGRAM", "程序";
    Setting: "SETTING", "设置";
    PurgeAt: "REMOVED AT", "移除时间";
    BlockTrusted: "this host showed no other key", "该主机没有出示其他密钥";
    BlockNothing: "nothing selected that this applies to", "没有选中适用的对象";
    ReadFirst: "Read what is voted on, then press A.", "请先阅读提案内容, 再按 A。";

    // List states.
    Loading: "Loading... ({})", "加载中... ({})";
    NoMatch: "No match for /{}", "没有匹配 /{} 的行";
    Hidden: "({} hidden). Esc clears the filter.", "(隐藏 {} 行)。按 Esc 清除过滤。";
    DeniedLine: "You may not see this: {}", "您无权查看: {}";
    FailedLine: "Could not load: {}", "无法加载: {}";
    FailedNext: "Ctrl-R tries again.", "按 Ctrl-R 重试。";
    EmptyReplicas: "No replica is known yet.", "还没有已知的副本。";
    EmptyTenants: "No tenants yet. Create one: hanse tenant create", "还没有租户。创建: hanse tenant create";
    EmptyConsortiums: "No consortiums yet. Found one: hanse consortium create", "还没有联盟。创建: hanse consortium create";
    EmptyProposals: "No proposals yet. Open one: hanse proposal open", "还没有提案。发起: hanse proposal open";
    EmptyChains: "No chains yet. A passed proposal creates one: hanse proposal open", "还没有链。提案通过后创建: hanse proposal open";
    EmptyNodes: "No nodes yet.", "还没有节点。";
    EmptyFindings: "Nothing is wrong.", "没有异常。";
    EmptySeries: "Nothing was seen of it in the last hour.", "最近一小时没有数据。";
    EmptyArtifacts: "No software yet. Bring some: hanse artifact import", "还没有软件。导入: hanse artifact import";
    EmptyClouds: "No clouds yet. Add one: hanse cloud add", "还没有云。添加: hanse cloud add";
    EmptyMachines: "No machines of clouds yet. Make one: hanse cloud machine create", "还没有云机器。创建: hanse cloud machine create";
    EmptyHosts: "No hosts yet. Enrol one: hanse host enrol", "还没有主机。登记: hanse host enrol";
    EmptyOperations: "No operations yet.", "还没有作业。";
    AuditTree: "Tree of {} entries, root {}", "默克尔树: {} 条记录, 根 {}";
    EmptyAudit: "No audit entries yet.", "还没有审计记录。";
    EmptyRecent: "Nobody changed anything lately; :audit shows what the platform did.", "最近无人变更; 平台自身的记录见 :audit。";
    EmptyBlocks: "No blocks yet.", "还没有区块。";
    EmptyTransactions: "No transactions in this block.", "该区块没有交易。";
    EmptyInvoice: "No usage in this month.", "该月没有用量。";
    EmptyMessages: "No messages in this session.", "本次会话没有消息。";
    EmptyNeeds: "Nothing needs you.", "没有需要您处理的事项。";
    EmptyGone: "It does not exist (any more). Esc goes back.", "它不存在 (或已被删除)。按 Esc 返回。";

    // Columns.
    ColReplica: "REPLICA", "副本";
    ColRole: "ROLE", "角色";
    ColApplied: "ENTRY", "条目";
    ColLag: "LAG", "落后";
    ColAddress: "ADDRESS", "地址";
    ColVersion: "VERSION", "程序版本";
    ColDigest: "DIGEST", "摘要";
    ColSpeaks: "SPEAKS", "可用版本";
    ColTenant: "TENANT", "租户";
    ColDisplayName: "DISPLAY NAME", "显示名称";
    ColState: "STATE", "状态";
    ColAge: "AGE", "时长";
    ColConsortium: "CONSORTIUM", "联盟";
    ColMembers: "MEMBERS", "成员";
    ColProposal: "PROPOSAL", "提案";
    ColTitle: "TITLE", "标题";
    ColYes: "YES", "赞成";
    ColNeeded: "NEED", "需要";
    ColCloses: "CLOSES", "截止";
    ColBy: "BY", "发起人";
    ColChain: "CHAIN", "链";
    ColTemplate: "TEMPLATE", "模板";
    ColNodes: "NODES", "节点";
    ColHeight: "HEIGHT", "高度";
    ColSeverity: "SEVERITY", "级别";
    ColCode: "CODE", "代码";
    ColAbout: "OF", "对象";
    ColWhat: "WHAT", "现象";
    ColArtifact: "ARTIFACT", "软件";
    ColBytes: "BYTES", "字节";
    ColPublisher: "PUBLISHER", "发布者";
    ColFigure: "FIGURE", "指标";
    ColLast: "LAST", "当前";
    ColLeast: "LEAST", "最小";
    ColMost: "MOST", "最大";
    ColSpeed: "RATE", "速率";
    ColTrend: "TREND", "趋势";
    ColReason: "REASON", "原因";
    ColNode: "NODE", "节点";
    ColHealth: "HEALTH", "健康";
    ColPeers: "PEERS", "对等";
    ColHost: "HOST", "主机";
    ColCloud: "CLOUD", "云";
    ColRegion: "REGION", "区域";
    ColMachines: "MACHINES", "机器";
    ColEndpoint: "ENDPOINT", "接入点";
    ColCredentials: "CREDENTIALS", "凭据文件";
    ColOrphans: "ORPHANS", "孤儿";
    ColMachine: "MACHINE", "机器";
    ColType: "TYPE", "规格";
    ColPlace: "ZONE SUBNET", "可用区 子网";
    ColInstance: "INSTANCE", "实例";
    ColOwner: "OWNER", "所有者";
    ColGeneration: "GEN", "代次";
    ColRestarts: "RESTARTS", "重启";
    ColRepairs: "REPAIRS", "剩余修复";
    Repairs: "REPAIRS", "自动修复";
    RepairsEach: "{} an hour and node", "每节点每小时 {} 次";
    RepairsDefault: "(default)", "(默认)";
    RepairsOff: "off: nodes that end or hang stay so", "关闭: 停止或挂起的节点保持原状";
    ColSlots: "SLOTS", "槽位";
    ColZone: "ZONE", "故障域";
    ColDedicated: "ONLY FOR", "专用于";
    ColReach: "REACH", "连接方式";
    ColCapacity: "CAPACITY", "容量";
    ColSeen: "PROBED", "检查于";
    ColOperation: "OPERATION", "作业";
    ColKind: "KIND", "类型";
    ColTarget: "TARGET", "对象";
    ColSteps: "STEPS", "步骤";
    ColTook: "TOOK", "用时";
    ColCause: "CAUSE", "原因";
    ColRequest: "REQUEST", "请求号";
    ColSeq: "SEQ", "序号";
    ColTime: "TIME (UTC)", "时间 (UTC)";
    ColActor: "ACTOR", "操作者";
    ColAction: "ACTION", "动作";
    ColResource: "RESOURCE", "资源";
    ColOutcome: "OUTCOME", "结果";
    ColSource: "SOURCE", "来源";
    ColWeight: "WEIGHT", "权重";
    ColKey: "MEMBER KEY", "成员公钥";
    ColChoice: "CHOICE", "选择";
    ColHash: "HASH", "哈希";
    ColTransactions: "TXS", "交易";
    ColGas: "GAS", "Gas";
    ColGovernance: "GOVERNANCE", "治理";
    ColPower: "POWER", "权重";
    ColNodeId: "NODE ID", "节点标识";
    ColAccount: "ACCOUNT", "账户";
    ColProposer: "PROPOSER", "出块者";
    ColHours: "HOURS", "小时";
    ColRate: "PER HOUR", "每小时价格";
    ColAmount: "AMOUNT", "金额";

    // Details.
    Founder: "FOUNDER", "创建者";
    Created: "CREATED", "创建于";
    VotingPeriod: "VOTING PERIOD", "投票期";
    CharterRule: "CHARTER", "章程";
    Members: "Members", "成员";
    Closes: "closes in", "距截止";
    Decided: "decided", "决定于";
    Overdue: "overdue", "已到期";
    Needed: "need", "需要";
    Yes: "yes", "赞成";
    No: "no", "反对";
    Abstain: "abstain", "弃权";
    NotVoted: "not voted", "未投票";
    You: "you", "本方";
    Ballots: "Ballots", "投票";
    Artifact: "What is voted on", "表决内容";
    Parameter: "PARAMETER", "参数";
    Genesis: "GENESIS", "创世";
    AuditAnchor: "AUDIT ANCHOR", "审计锚定";
    AnchorNone: "no head of the audit trail yet", "尚未锚定审计日志";
    AnchorRecords: "records", "条记录";
    OpenBlocks: "Enter shows the blocks", "按 Enter 查看区块";
    Steps: "Steps", "步骤";
    ClosingStopsNothing: "Closing this view does not stop the operation.", "关闭此画面不会停止作业。";
    InvoiceDraft: "Draft invoice", "账单草稿";
    Month: "MONTH (UTC)", "月份 (UTC)";
    Total: "TOTAL", "合计";
    Recomputed: "RECOMPUTED", "重新计算";
    InvoiceEqual: "equal to the sum over every usage record", "与全部用量记录之和相等";
    InvoiceDiffers: "DIFFERS from the sum over the usage records", "与用量记录之和不一致";
    MeteredUntil: "METERED UNTIL", "计量至";
    Unpriced: "WITHOUT PRICE", "无价格";
    Note: "NOTE", "说明";

    // Preflight.
    PreflightLine: "{} errors, {} warnings", "{} 个错误, {} 个警告";
    FindingError: "ERROR", "错误";
    FindingWarning: "WARNING", "警告";
    FindingFine: "fine", "正常";
    // Governance.
    GovernedBy: "{} of {} members must sign a change", "变更需 {} 个签名 (共 {} 个成员)";
    Ungoverned: "nobody can change this chain while it runs", "该链运行后无人可以变更";
    Asked: "ASKED", "应答节点";
    NextBlock: "next block", "下一区块";
    Halted: "HALTED", "已停止";
    NextProposal: "NEXT PROPOSAL", "下一提案号";
    RulesVersion: "RULES", "规则版本";
    RulesLine: "version {} known, version {} needed", "程序支持 {}, 链需要 {}";
    Upgrade: "UPGRADE", "升级";
    UpgradeLine: "version {} after height {}", "版本 {}, 于高度 {} 之后";
    NoAnswer: "NO ANSWER", "无应答";
    Validators: "Validators", "验证者";
    ValidatorsFrom: "Validators from height {}", "自高度 {} 起的验证者";
    Foreign: "not of this platform", "非本平台节点";
    ListNodes: "Nodes that may connect besides the validators", "验证者以外可连接的节点";
    ListSenders: "Accounts that may send transactions", "可发送交易的账户";
    ListDeployers: "Accounts that may create contracts", "可创建合约的账户";
    ListOpen: "all may", "不限";
    ListInForce: "only these:", "仅限以下:";
    ListSoonInForce: "all may; decided: only these", "不限; 已决定: 仅限以下";
    ListSoonOpen: "only these; decided: all may", "仅限以下; 已决定: 不限";
    ListAdded: "on the list from height {}", "自高度 {} 起列入";
    ListRemoved: "off the list from height {}", "自高度 {} 起移出";
    Evidence: "Double signing", "双重签名";
    EvidenceLine: "signed two of {} at height {}", "签署了两个 {}, 高度 {}";
    EmptyEvidence: "None of the nodes that answered has a proof of any.", "应答的节点均无此类证据。";

    // Explorer.
    Block: "Block", "区块";
    Parent: "PARENT", "父区块";
    StateRoot: "STATE ROOT", "状态根";
    Transaction: "Transaction", "交易";
    Transactions: "Transactions", "交易";
    From: "FROM", "发送方";
    To: "TO", "接收方";
    Value: "VALUE", "金额";
    Contract: "Contract", "合约";
    InputData: "Input data", "输入数据";
    Account: "Account", "账户";
    Balance: "BALANCE", "余额";
    Nonce: "NONCE", "交易计数";
    CodeBytes: "CODE BYTES", "代码字节";
    SearchPrompt: "search (height, hash, address): ", "搜索 (高度, 哈希, 地址): ";

    // Overview.
    NeedsYou: "Needs you", "待您处理";
    Recent: "Recent changes", "最近变更";
    TileOk: "ok", "正常";
    TileWarn: "open", "进行";
    TileBad: "bad", "异常";
    NeedReplica: "REPLICA", "副本";
    NeedOperation: "OPERATION", "作业";
    NeedChain: "CHAIN", "链";
    NeedNode: "NODE", "节点";
    NeedHost: "HOST", "主机";
    NeedVote: "VOTE", "投票";

    // Actions.
    ActOpen: "open", "打开";
    ActBack: "back", "返回";
    ActHistoryBack: "back in history", "历史后退";
    ActHistoryForward: "forward in history", "历史前进";
    ActUp: "up", "上移";
    ActDown: "down", "下移";
    ActPageUp: "page up", "上一页";
    ActPageDown: "page down", "下一页";
    ActHalfUp: "half a page up", "上半页";
    ActHalfDown: "half a page down", "下半页";
    ActFirst: "first line", "首行";
    ActLast: "last line", "末行";
    ActDescribe: "describe", "详情";
    ActJson: "JSON", "JSON";
    ActCommand: "command", "命令";
    ActFilter: "filter", "过滤";
    ActSearch: "search", "搜索";
    ActPrefix: "go to...", "前往...";
    ActHelp: "help", "帮助";
    ActMessages: "messages", "消息";
    ActRefetch: "refetch", "重新获取";
    ActRedraw: "redraw", "重绘";
    ActInterrupt: "cancel; twice quits", "取消; 按两次退出";
    ActQuit: "quit", "退出";
    ActVote: "vote...", "投票...";
    ActRestart: "restart...", "重启...";
    ActPause: "pause/resume...", "暂停/恢复...";
    ActMove: "move...", "迁移...";
    ActRoll: "roll...", "滚动更新...";
    ActRollBack: "roll back...", "回退...";
    ActUndelete: "undelete...", "撤销删除...";
    ActCordon: "cordon...", "停止/恢复调度...";
    ActAcceptKey: "accept key...", "接受密钥...";
    ActPreflight: "preflight", "预检";
    ActMaintain: "maintain...", "维护...";
    ActRepair: "repair...", "自动修复...";
    ActReach: "way...", "访问方式...";
    ActDrain: "drain...", "腾空...";
    ActRetire: "retire...", "退役...";
    ActTransferLeader: "transfer lead...", "移交领导...";
    ActPromoteReplica: "promote...", "提升...";
    ActRemoveReplica: "remove...", "移除...";
    ActRaiseVersion: "upgrade...", "升级...";
    HelpRule: "Lower case looks, UPPER CASE changes (always with a dialog).", "小写只看, 大写才改 (总有确认对话框)。";
    HelpPrefix: "After g", "g 之后";
    HelpCommands: "Commands", "命令";

    // Prompt and messages.
    UnknownCommand: "unknown command; F1 lists them", "未知命令; 按 F1 查看";
    WhatToFind: "say what to find: :tx <chain> <hash>", "请写明要查什么: :tx <链> <哈希>";
    WhichChain: "which chain? :blocks <consortium>/<chain>", "哪条链? :blocks <联盟>/<链>";
    WhatToMonitor: "of what? :monitor <chain>, or on a row", "监控什么? :monitor <链>，或先选一行";
    WhichTenant: "which tenant? :billing <tenant>", "哪个租户? :billing <租户>";
    AgainToQuit: "Ctrl-C again quits.", "再按一次 Ctrl-C 退出。";
    Working: "Working...", "处理中...";
    Done: "Done: {}", "完成: {}";
    FailedWrite: "Refused: {}", "被拒绝: {}";
    UnknownOutcome: "Outcome unknown: {}", "结果未知: {}";
    LoggedIn: "Logged in as {}", "已登录: {}";
    SessionEnded: "The session ended; log in again. Your view is kept.", "会话已结束; 请重新登录。画面会保留。";
    LinkLost: "No leader answers: {}", "没有主副本应答: {}";
    LinkBack: "A leader answers again.", "主副本已恢复应答。";
    MoreEnter: "Enter: details", "Enter: 详细信息";

    // Dialogs and forms.
    VoteTitle: "Vote on {}", "对 {} 投票";
    VoteAs: "as {}, weight", "代表 {}, 权重";
    VoteChoice: "Choice", "选择";
    VoteKey: "Member key file", "成员私钥文件";
    VoteHelp: "Left/Right or 1 2 3 choose, Tab goes on. The key stays on this machine.", "左右键或 1 2 3 选择, Tab 下一项。私钥不会离开本机。";
    VoteNoChoice: "choose yes, no or abstain first", "请先选择赞成, 反对或弃权";
    VoteNoKey: "name the file of the member key first", "请先填写成员私钥文件";
    Hash: "Artifact", "内容哈希";
    PlanWait: "asking what this would do ...", "正在询问其影响 ...";
    PlanNone: "what this would do is not known: {}", "其影响未知: {}";
    PlanRefused: "it would be refused: {}", "将被拒绝: {}";
    RestartTitle: "Restart node", "重启节点";
    RestartPlan: "The node stops and is started anew with the next generation. The chain goes on while enough other nodes run.", "节点将停止并以新的代次启动。只要其他节点足够, 链会继续出块。";
    PauseTitle: "Pause chain", "暂停链";
    PausePlan: "Every node of the chain is stopped and keeps everything. It takes no transaction and its time is not billed until it is resumed.", "该链的所有节点将停止并保留全部数据。恢复之前不接受交易, 也不计时收费。";
    ResumeTitle: "Resume chain", "恢复链";
    ResumePlan: "Every node of the chain is started where it was stopped. Its time is billed again.", "该链的所有节点将从停止处继续运行, 并重新计时收费。";
    MoveTitle: "Move node", "迁移节点";
    MovePlan: "The node is stopped and fenced where it is, its home with its key is carried to the host that suits the chain best, removed here, and started there. Its key never runs at two hosts. To choose the host: --to HOST on the command line.", "节点将在原主机停止并隔离, 其目录连同密钥转移到最适合该链的主机, 从原处删除, 然后在新主机启动。同一密钥绝不会在两台主机上运行。如需指定主机: 在命令行使用 --to HOST。";
    RollTitle: "Roll chain", "滚动更新链";
    RollPlan: "Every node is configured and started anew, one after another, each only while all others are well. It halts by itself if one does not come back. With four founders or more the chain goes on; fewer are refused here.", "所有节点将逐个重新配置并启动, 仅当其他节点均正常时才继续; 若有节点未恢复则自动停止。创始节点不少于四个时链持续出块; 少于四个时此处不允许。";
    RollBackTitle: "Go back to the program before", "回退到先前的程序";
    RollBackPlan: "The nodes that the upgrade has reached go back to the program before, one after another; the others are not touched. The ledger is asked first: if it cannot tell whether the older program reads what the newer one wrote, it is refused here, and the command line takes --accept-risk.", "已升级的节点将逐个回退到先前的程序, 其他节点不受影响。系统会先询问账本: 若无法确定旧程序能否读取新程序写入的数据, 此处将拒绝, 可在命令行使用 --accept-risk。";
    RollOnTitle: "Let the rolling change go on", "继续滚动更新";
    RollOnPlan: "The halted rolling change goes on with the next node.", "已停止的滚动更新将从下一个节点继续。";
    RepairTitle: "Automatic repair of a chain", "链的自动修复";
    RepairHelp: "How often each node is started again within an hour before it waits for a person: 1 to 15, off, or default (5). The reason goes into the audit trail.", "每个节点每小时最多自动重启几次, 之后等待人工处理: 1 到 15, off (关闭) 或 default (默认 5 次)。原因记入审计。";
    RepairTimes: "Restarts an hour", "每小时重启次数";
    RepairWrong: "restarts an hour: a number from 1 to 15, off, or default", "每小时重启次数: 1 到 15 的数字, off 或 default";
    ReasonMissing: "say why: the reason goes into the audit trail", "请填写原因: 它将记入审计";
    ReachTitle: "The way to a host", "到达主机的方式";
    ReachHelp: "The host is looked at by the new way first; nothing changes if that fails. Login: key, certificate or agent. Machines between: USER@ADDRESS[:PORT]=SHA256:..., separated by spaces. Whoever holds a pinned key is given the host's nodes.", "将先按新方式检查主机, 失败则不作更改。登录: key, certificate 或 agent。跳板机: USER@ADDRESS[:PORT]=SHA256:..., 以空格分隔。持有已固定密钥者将得到该主机的节点。";
    ReachAddress: "Address", "地址";
    ReachPort: "Port", "端口";
    ReachUser: "User", "用户";
    ReachPin: "Pinned", "已固定";
    ReachJumps: "Machines between", "跳板机";
    ReachLogin: "Login", "登录";
    ReachSudo: "Root (sudo)", "以 root (sudo)";
    ReachName: "address and user: a name without spaces", "地址和用户: 不含空格的名称";
    ReachPortWrong: "port: a number from 1 to 65535", "端口: 1 到 65535 的数字";
    ReachPinWrong: "pinned: SHA256:... of the host's key, or authority SHA256:...", "已固定: 主机密钥的 SHA256:..., 或 authority SHA256:...";
    ReachJumpsWrong: "machines between: each USER@ADDRESS[:PORT]=SHA256:...", "跳板机: 每台写作 USER@ADDRESS[:PORT]=SHA256:...";
    ReachLoginWrong: "login: key, certificate or agent", "登录: key, certificate 或 agent";
    ReachSudoWrong: "root: yes or no", "root: yes 或 no";
    ReachSame: "nothing is changed yet", "尚未更改任何内容";
    BlockNotSsh: "this host is not behind SSH", "该主机不通过 SSH 访问";
    UndeleteTitle: "Undelete chain", "撤销删除链";
    UndeletePlan: "The deletion that the consortium voted for is taken back: the chain runs again, or rests if it was paused before.", "撤销联盟投票通过的删除: 该链将继续运行; 若之前已暂停则保持暂停。";
    CordonTitle: "Cordon host", "停止主机调度";
    CordonPlan: "Nothing new is placed on this host. Its nodes go on.", "不再向该主机放置新节点。已有节点继续运行。";
    MaintainTitle: "Begin maintenance of a host", "开始主机维护";
    MaintainPlan: "Nothing is placed, done or repaired on it until it is uncordoned. Refused if a chain would lose its quorum.", "在恢复调度之前, 不在其上放置、操作或修复任何内容。若某条链将失去法定数则拒绝。";
    DrainTitle: "Drain a host", "腾空主机";
    DrainPlan: "It takes no new nodes, and those on it are to be moved away.", "不再接收新节点, 其上节点应迁走。";
    DeleteMachineTitle: "Delete a machine in its cloud", "删除云中的机器";
    DeleteMachinePlan: "The machine and its disks are deleted in the cloud, for ever, and its host is forgotten. It must be empty. Type its name.", "机器及其磁盘将在云中永久删除,其主机也不再登记。它必须为空。请输入其名称。";
    RetireTitle: "Retire a host", "退役主机";
    RetirePlan: "The platform forgets it. Refused while anything is on it.", "平台将其遗忘。其上仍有内容时拒绝。";
    UncordonTitle: "Uncordon host", "恢复主机调度";
    UncordonPlan: "Nodes may be placed on this host again.", "可以再次向该主机放置节点。";
    TransferLeaderTitle: "Hand the lead over", "移交领导权";
    TransferLeaderPlan: "This replica leads afterwards. Calls wait for a moment.", "此后由该副本领导。请求会短暂等待。";
    PromoteReplicaTitle: "Give a learner a vote", "授予投票权";
    PromoteReplicaPlan: "The replica counts for the majority from then on. Refused if it lags or does not answer.", "此后该副本计入多数。若其落后或无应答则拒绝。";
    RemoveReplicaTitle: "Remove a replica for ever", "永久移除副本";
    RemoveReplicaPlan: "It leaves the cluster and its id never comes back. Refused if no majority of the rest answers.", "它将离开集群, 其编号不再使用。若其余副本无多数应答则拒绝。";
    RaiseVersionTitle: "Raise the cluster's version", "提升集群版本";
    RaiseVersionPlan: "For ever: no replica can go back to an older build. Refused unless every replica runs the newer one.", "不可撤销: 此后任何副本都不能退回旧程序。若有副本仍运行旧程序则拒绝。";
    AcceptKeyTitle: "Trust a host's new key", "信任主机的新密钥";
    AcceptKeyPlan: "Whoever holds this key is given the host's nodes. Compare it at the host's own console, then type its last 8 characters.", "持有此密钥者将得到该主机的节点。请在主机本地控制台核对, 然后输入其最后 8 个字符。";
    AcceptKeyTyped: "Last 8", "最后 8 位";
    TypeWord: "Type its name", "输入其名称";
    TypeWordWrong: "type {} to confirm, or Esc", "请输入 {} 以确认, 或按 Esc";
    AcceptKeyWrong: "that is not the end of the key it showed", "与主机出示的密钥末尾不符";
    KeyPinned: "Pinned", "已固定";
    KeySeen: "Shown now", "现在出示";
    Command: "Same on the command line:", "等价命令:";
    Cancel: "[ Cancel ]  Esc", "[ 取消 ]  Esc";
    Confirm: "( Confirm )  y", "( 确认 )  y";
    ConfirmEnter: "( Confirm )  Enter", "( 确认 )  Enter";
    FailureTitle: "What went wrong", "错误";
    Why: "Why", "原因";
    Next: "What to do", "如何处理";
    Field: "Field", "字段";
    RequestId: "Request", "请求号";
    CloseHint: "Esc closes", "按 Esc 关闭";
    LoginTitle: "Log in", "登录";
    LoginHint: "Tab next field, Enter logs in, Ctrl-C twice quits", "Tab 下一项, Enter 登录, 按两次 Ctrl-C 退出";
    SetupTitle: "First run: make the administrator", "首次运行: 创建管理员";
    SetupHint: "The first replica printed the setup code. Tab next field, Enter makes the account.", "设置码由首个副本打印。Tab 下一项, Enter 创建账户。";
    SetupCode: "Setup code", "设置码";
    Password: "Password", "密码";
    PasswordAgain: "Password again", "再次输入密码";
    PasswordsDiffer: "the two passwords differ", "两次输入的密码不一致";
    FieldMissing: "fill in: {}", "请填写: {}";
}
