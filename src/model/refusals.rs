//! Whether an error tells that the far service did not take the key. Told by common words alone, and rather not than wrongly: a refusal
//! that is missed shows in the tool's own answer, one that is imagined sends people after a new key for nothing.

/// An error says so at its beginning; what stands further down is what it quotes.
const HEAD_CHARS: usize = 500;

/// Each says it by itself, wherever it stands: nothing but a key is spoken of so.
const PHRASES: [&str; 37] = [
    "401 unauthorized",
    "401 client error",
    "403 forbidden",
    "access token expired",
    "access token has expired",
    "api key has expired",
    "api key is invalid",
    "api key not valid",
    "api token is invalid",
    "authentication failed",
    "authentication failure",
    "authentication_error",
    "authentication required",
    "bad credentials",
    "could not authenticate",
    "failed to authenticate",
    "incorrect api key",
    "invalid access token",
    "invalid api key",
    "invalid api token",
    "invalid api_key",
    "invalid apikey",
    "invalid auth",
    "invalid bearer token",
    "invalid credentials",
    "invalid personal access token",
    "invalid token",
    "invalid x-api-key",
    "invalid_api_key",
    "invalid_auth",
    "invalid_token",
    "key has been revoked",
    "requires authentication",
    "token has been revoked",
    "token is invalid",
    "token_expired",
    "token_revoked",
];

/// Before the number of a status, and nothing else but signs between them.
const BEFORE_A_STATUS: [&str; 7] = [
    "status",
    "code",
    "http",
    "error",
    "status_code",
    "statuscode",
    "response",
];

/// In place of the far service's reason: an error is this and hardly more.
const ALONE: [&str; 4] = [
    "unauthorized",
    "unauthorised",
    "unauthenticated",
    "not_authed",
];

/// Such an answer to a key that is good: there were too many calls.
const TOO_MANY: [&str; 3] = ["rate limit", "rate_limit", "too many requests"];

/// Whether the text of an error tells of a refused key.
pub fn is_refused_key(error: &str) -> bool {
    let head: String = error.chars().take(HEAD_CHARS).collect();
    let head = head.to_lowercase();
    if TOO_MANY.iter().any(|words| head.contains(words)) {
        return false;
    }
    let words: Vec<&str> = head
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')))
        .filter(|word| !word.is_empty())
        .collect();
    // With one space between the words, whatever signs there were.
    let spoken = words.join(" ");
    PHRASES.iter().any(|phrase| says(&spoken, phrase))
        || is_status_401(&words)
        || is_said_alone(&words)
}

/// Whether these words stand there as words.
fn says(spoken: &str, phrase: &str) -> bool {
    let is_end = |c: Option<char>| c.is_none_or(|c| c == ' ');
    spoken.match_indices(phrase).any(|(at, found)| {
        is_end(spoken[..at].chars().next_back())
            && is_end(spoken[at + found.len()..].chars().next())
    })
}

/// 401 as a status, and not as the number of something.
fn is_status_401(words: &[&str]) -> bool {
    words.windows(2).any(|pair| BEFORE_A_STATUS.contains(&pair[0]) && pair[1] == "401")
        // As in `HTTP/1.1 401`.
        || words.windows(4).any(|four| four[0] == "http" && four[3] == "401")
        || *words == ["401"]
}

/// As in `GitLab API error: Unauthorized`: in a short error it is the last word, or the first.
fn is_said_alone(words: &[&str]) -> bool {
    const SHORT_WORDS: usize = 12;
    let is_it = |word: Option<&&str>| word.is_some_and(|word| ALONE.contains(word));
    words.len() <= SHORT_WORDS && (is_it(words.last()) || is_it(words.first()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_key_is_told_by_how_services_and_their_clients_say_it() {
        for error in [
            "Error: Request failed with status code 401",
            "GitLab API error: Unauthorized",
            "GitLab API error: 401 Unauthorized",
            r#"GitHub API error: 401 - {"message":"Bad credentials","documentation_url":"https://docs.github.com/rest"}"#,
            "Authentication Failed: Bad credentials",
            "Failed to list channels: An API error occurred: invalid_auth",
            "An API error occurred: token_revoked",
            "not_authed",
            r#"AuthenticationError: 401 {"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
            "Error code: 401 - {'error': {'message': 'Incorrect API key provided: sk-a***b.'}}",
            "401 Client Error: Unauthorized for url: https://api.example.org/v1/issues?page=2",
            "Client error '401 Unauthorized' for url 'https://api.example.org/me'",
            r#"{"object":"error","status":401,"code":"unauthorized","message":"API token is invalid."}"#,
            "Invalid API Key provided: sk_test_***",
            "API key not valid. Please pass a valid API key.",
            r#"{"detail":"Invalid token"}"#,
            "HTTP 401",
            "HTTP/1.1 401",
            "HTTP error! status: 401",
            "Error: Unauthorized",
            "Unauthorized: sign in first",
            "403 Forbidden",
            "Request failed: 403 (Forbidden)",
            "The access token expired",
            "FATAL: password authentication failed for user \"shop\"",
            "Requires authentication",
        ] {
            assert!(is_refused_key(error), "{error}");
        }
    }

    #[test]
    fn what_only_speaks_of_such_things_is_no_refused_key() {
        let far_down = format!(
            "Page not found. {} 401 Unauthorized",
            "It said: ".repeat(60)
        );
        for error in [
            "",
            "Issue #401 was not found",
            "There is no issue 401 in this project",
            "Row 401 is not a number",
            "Connection to port 4010 was refused",
            "Error: status code 404",
            "HTTP 500: Internal Server Error",
            "HTTP 4011",
            "ENOENT: no such file, open '/data/401 notes.txt'",
            "Could not read the chapter on unauthorized access to computers, which is not in this edition of the book",
            "The field `token` is missing from the arguments",
            "Unexpected token < in JSON at position 0",
            "invalid token_type in the arguments",
            "403 rate limit exceeded for this address",
            "HTTP 401: rate limit exceeded",
            "Forbidden words were found in the title",
            "HTTP 403: the project is archived",
            far_down.as_str(),
        ] {
            assert!(!is_refused_key(error), "{error}");
        }
    }
}
