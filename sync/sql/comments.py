"""Writing posts and their comments in sets.

They are copied into session-local staging tables, compared with what is stored, and only new and
changed ones are written. A replayed batch thus writes no WAL.
"""

from __future__ import annotations

STAGE_POSTS = """
CREATE TEMP TABLE IF NOT EXISTS staged_post (
    external_id text, author_id text, author_name text, title text, text text, url text,
    published_at timestamptz, edited_at timestamptz, is_deleted boolean, stated boolean
) ON COMMIT DELETE ROWS;
DELETE FROM staged_post
"""

COPY_POSTS = """
COPY staged_post (external_id, author_id, author_name, title, text, url, published_at, edited_at,
                  is_deleted, stated) FROM STDIN
"""

# post_is_there_once. As with conversations, a post that only a comment spoke of is never changed.
# The newer version counts, and what a post said before is kept.
UPSERT_POSTS = """
WITH resolved AS MATERIALIZED (
    SELECT s.*, p.id AS p_id, p.id IS NULL AS missing,
           s.stated AND (
               %(fetched)s OR (s.is_deleted, coalesce(s.edited_at, '-infinity'))
                           >= (p.is_deleted, coalesce(p.edited_at, '-infinity'))
           ) AND (s.author_id, s.author_name, s.title, s.text, s.url, s.published_at, s.edited_at,
                  s.is_deleted)
               IS DISTINCT FROM
               (p.author_id, p.author_name, p.title, p.text, p.url, p.published_at, p.edited_at,
                p.is_deleted) AS differs,
           (s.title, s.text, s.url, s.is_deleted)
           IS DISTINCT FROM (p.title, p.text, p.url, p.is_deleted) AS reads_otherwise,
           jsonb_build_object(
               'title', p.title, 'text', p.text, 'url', p.url, 'edited_at', p.edited_at,
               'is_deleted', p.is_deleted
           ) AS former
    FROM staged_post s
    LEFT JOIN LATERAL (
        SELECT * FROM sync_post t
        WHERE t.account_id = %(account)s AND t.external_id = s.external_id LIMIT 1
    ) p ON true
), kept AS (
    INSERT INTO sync_recordversion (account_id, kind, record_id, content, sequence)
    SELECT %(account)s, 'post', p_id, former, %(sequence)s
    FROM resolved WHERE NOT missing AND differs AND reads_otherwise
), written AS (
    INSERT INTO sync_post AS p (
        account_id, external_id, author_id, author_name, title, text, url, published_at, edited_at,
        is_deleted
    )
    SELECT %(account)s, external_id, author_id, author_name, title, text, url, published_at,
           edited_at, is_deleted
    FROM resolved WHERE missing OR differs
    ON CONFLICT (account_id, external_id) DO UPDATE
    SET author_id = EXCLUDED.author_id, author_name = EXCLUDED.author_name,
        title = EXCLUDED.title, text = EXCLUDED.text, url = EXCLUDED.url,
        published_at = EXCLUDED.published_at, edited_at = EXCLUDED.edited_at,
        is_deleted = EXCLUDED.is_deleted
    RETURNING id, xmax = 0 AS inserted
)
SELECT (SELECT array_agg(id) FILTER (WHERE inserted) FROM written),
       (SELECT array_agg(id) FILTER (WHERE NOT inserted) FROM written),
       count(*) FILTER (WHERE stated AND NOT missing AND NOT differs),
       count(*) FILTER (WHERE NOT stated AND missing)
FROM resolved
"""

STAGE_COMMENTS = """
CREATE TEMP TABLE IF NOT EXISTS staged_comment (
    external_id text, post text, parent_external_id text, author_id text, author_name text,
    text text, direction text, published_at timestamptz, edited_at timestamptz,
    is_deleted boolean
) ON COMMIT DELETE ROWS;
DELETE FROM staged_comment
"""

COPY_COMMENTS = """
COPY staged_comment (external_id, post, parent_external_id, author_id, author_name, text,
                     direction, published_at, edited_at, is_deleted) FROM STDIN
"""

# comment_is_there_once, post_is_there_once. A comment stays below its post and keeps its direction.
# The newer version counts, and what a comment said before is kept.
UPSERT_COMMENTS = """
WITH resolved AS MATERIALIZED (
    SELECT s.*, p.id AS post_id, c.id AS c_id, c.id IS NULL AS missing,
           (%(fetched)s OR (s.is_deleted, coalesce(s.edited_at, '-infinity'))
                        >= (c.is_deleted, coalesce(c.edited_at, '-infinity')))
           AND (s.parent_external_id, s.author_id, s.author_name, s.text, s.published_at,
                s.edited_at, s.is_deleted)
               IS DISTINCT FROM
               (c.parent_external_id, c.author_id, c.author_name, c.text, c.published_at,
                c.edited_at, c.is_deleted) AS differs,
           (s.text, s.is_deleted) IS DISTINCT FROM (c.text, c.is_deleted) AS reads_otherwise,
           jsonb_build_object(
               'text', c.text, 'edited_at', c.edited_at, 'is_deleted', c.is_deleted
           ) AS former
    FROM staged_comment s
    JOIN LATERAL (
        SELECT * FROM sync_post t
        WHERE t.account_id = %(account)s AND t.external_id = s.post LIMIT 1
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT * FROM sync_comment t
        WHERE t.account_id = %(account)s AND t.external_id = s.external_id LIMIT 1
    ) c ON true
), kept AS (
    INSERT INTO sync_recordversion (account_id, kind, record_id, content, sequence)
    SELECT %(account)s, 'comment', c_id, former, %(sequence)s
    FROM resolved WHERE NOT missing AND differs AND reads_otherwise
), written AS (
    INSERT INTO sync_comment AS c (
        account_id, post_id, external_id, parent_external_id, author_id, author_name, text,
        direction, published_at, edited_at, is_deleted
    )
    SELECT %(account)s, post_id, external_id, parent_external_id, author_id, author_name, text,
           direction, published_at, edited_at, is_deleted
    FROM resolved WHERE missing OR differs
    ON CONFLICT (account_id, external_id) DO UPDATE
    SET parent_external_id = EXCLUDED.parent_external_id, author_id = EXCLUDED.author_id,
        author_name = EXCLUDED.author_name, text = EXCLUDED.text,
        published_at = EXCLUDED.published_at, edited_at = EXCLUDED.edited_at,
        is_deleted = EXCLUDED.is_deleted
    RETURNING id, xmax = 0 AS inserted
)
SELECT (SELECT array_agg(id) FILTER (WHERE inserted) FROM written),
       (SELECT array_agg(id) FILTER (WHERE NOT inserted) FROM written),
       count(*) FILTER (WHERE NOT missing AND NOT differs),
       0
FROM resolved
"""
