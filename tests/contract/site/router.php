<?php
// Each request of `php -S`: the packaged WordPress with a database of the test's own.
foreach (['DB_NAME', 'DB_USER', 'DB_PASSWORD', 'DB_HOST', 'WP_CONTENT_DIR'] as $name) {
    define($name, getenv($name));
}
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
define('WP_HOME', 'http://' . $_SERVER['HTTP_HOST']);
define('WP_SITEURL', WP_HOME);
define('WP_ENVIRONMENT_TYPE', 'local');  // application passwords without TLS
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('DISABLE_WP_CRON', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
define('WP_USE_THEMES', false);
define('AUTH_KEY', 'tests');
$table_prefix = 'wp_';
define('ABSPATH', '/usr/share/wordpress/');
require ABSPATH . 'wp-settings.php';
add_filter('pre_wp_mail', '__return_true');  // no mail leaves
if ($seconds = get_option('muster_answer_429')) {  // as a firewall before the site does it
    delete_option('muster_answer_429');
    header('Retry-After: ' . $seconds);
    http_response_code(429);
    exit('slow down');
}
wp();
