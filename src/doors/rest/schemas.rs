//! How the words of the model are described to programs. The model itself knows no OpenAPI: it is compiled for the browser too.

use utoipa::ToSchema;

/// A bare name, or `meta|project|service/<name>/…` with 3 to 8 segments.
#[derive(ToSchema)]
#[schema(value_type = String, max_length = 255, min_length = 1, example = "project/shop/STRIPE_KEY",
    pattern = r"^([A-Za-z0-9_][A-Za-z0-9._-]*|(meta|project|service)(/[A-Za-z0-9_][A-Za-z0-9._-]*){2,7})$")]
#[allow(dead_code)]
pub struct SecretPathText(String);

/// A path of the token's owner, which may stand before it: `handle:path`. Another's handle finds nothing: a token sees one owner's things.
#[derive(ToSchema)]
#[schema(value_type = String, max_length = 295, min_length = 1, example = "project/shop/STRIPE_KEY",
    pattern = r"^([a-z][a-z0-9-]{0,38}:)?([A-Za-z0-9_][A-Za-z0-9._-]*|(meta|project|service)(/[A-Za-z0-9_][A-Za-z0-9._-]*){2,7})$")]
#[allow(dead_code)]
pub struct KeyPathText(String);

/// A word by which secrets are found again.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,38}$", example = "prod")]
#[allow(dead_code)]
pub struct TagText(String);

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)]
pub enum KindName {
    ApiKey,
    DatabaseUrl,
    JwtSecret,
    Certificate,
    Json,
    Custom,
}

/// Each includes those before it.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
pub enum LevelName {
    Use,
    Read,
    Write,
    Admin,
}
