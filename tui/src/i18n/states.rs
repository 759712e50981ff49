//! State, role, kind and policy words of the API in both languages.

use super::Lang;

/// (word of the API, English, Chinese).
pub(super) const ALL: &[(&str, &str, &str)] = &[
    ("REQUESTED", "REQUESTED", "已请求"),
    ("PROVISIONING", "PROVISIONING", "部署中"),
    ("RUNNING", "RUNNING", "运行中"),
    ("DEGRADED", "DEGRADED", "降级"),
    ("FAILED", "FAILED", "失败"),
    ("PREPARING", "PREPARING", "准备中"),
    ("PREPARED", "PREPARED", "已准备"),
    ("CONFIGURED", "CONFIGURED", "已配置"),
    ("STARTING", "STARTING", "启动中"),
    ("RESTARTING", "RESTARTING", "重启中"),
    ("BLOCKED", "BLOCKED", "受阻"),
    ("STOPPED", "STOPPED", "已停止"),
    ("HEALTHY", "HEALTHY", "健康"),
    ("UNHEALTHY", "UNHEALTHY", "不健康"),
    ("UNKNOWN", "UNKNOWN", "未知"),
    ("UNSPECIFIED", "UNKNOWN", "未知"),
    ("READY", "READY", "就绪"),
    ("CRITICAL", "CRITICAL", "严重"),
    ("WARNING", "WARNING", "警告"),
    ("NOTICE", "NOTICE", "提示"),
    ("CORDONED", "CORDONED", "停止调度"),
    ("DISTRUSTED", "DISTRUSTED", "不受信任"),
    ("UNREACHABLE", "UNREACHABLE", "无法连接"),
    ("ACTIVE", "ACTIVE", "有效"),
    ("SUSPENDED", "SUSPENDED", "已暂停"),
    ("LOCKED", "LOCKED", "已锁定"),
    ("FORMING", "FORMING", "组建中"),
    ("INVITED", "INVITED", "已邀请"),
    ("OPEN", "OPEN", "投票中"),
    ("PASSED", "PASSED", "已通过"),
    ("REJECTED", "REJECTED", "已否决"),
    ("EXPIRED", "EXPIRED", "已过期"),
    ("YES", "YES", "赞成"),
    ("NO", "NO", "反对"),
    ("ABSTAIN", "ABSTAIN", "弃权"),
    ("PENDING", "PENDING", "等待中"),
    ("DONE", "DONE", "完成"),
    ("SUCCEEDED", "SUCCEEDED", "成功"),
    ("REVERTED", "REVERTED", "已回滚"),
    ("LEADER", "leader", "主副本"),
    ("FOLLOWER", "follower", "从副本"),
    ("CANDIDATE", "candidate", "候选"),
    ("LEARNER", "learner", "学习者"),
    ("CREATE_CHAIN", "create chain", "创建链"),
    ("DEPLOY_CONTRACT", "deploy contract", "部署合约"),
    ("MAJORITY", "majority", "过半数"),
    ("TWO_THIRDS", "two thirds", "三分之二"),
    ("UNANIMOUS", "unanimous", "全体一致"),
    ("PLATFORM_ADMINISTRATOR", "administrator", "平台管理员"),
    ("PLATFORM_OPERATOR", "operator", "平台运维"),
    ("PLATFORM_AUDITOR", "auditor", "平台审计"),
    ("TENANT_OWNER", "owner", "租户所有者"),
    ("TENANT_OPERATOR", "operator", "租户运维"),
    ("TENANT_DEVELOPER", "developer", "租户开发"),
    ("TENANT_BILLING", "billing", "租户财务"),
    ("TENANT_AUDITOR", "auditor", "租户审计"),
];

/// Returns a word of the API in a language; a word this console does not know yet comes back as it is.
pub fn state(lang: Lang, word: &str) -> String {
    let known = ALL.iter().find(|(w, ..)| *w == word);
    match (known, lang) {
        (Some((_, en, _)), Lang::En) => (*en).to_owned(),
        (Some((_, _, zh)), Lang::Zh) => (*zh).to_owned(),
        (None, _) => word.to_owned(),
    }
}
