//! Stand-in until the tools arrive.
pub struct ToolsOptions {
    pub api_base: String,
    pub tools_base: String,
    pub secret_key: String,
    pub webhook_secret: crate::domain::signature::SigningSecret,
    pub mails: std::sync::Arc<
        dyn Fn() -> futures_util::future::BoxFuture<'static, crate::error::Result<Vec<crate::store::mails::Mail>>>
            + Send
            + Sync,
    >,
}
pub fn router(_: ToolsOptions) -> axum::Router {
    axum::Router::new()
}
